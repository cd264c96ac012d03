"""What the released scripts do, call by call, with the import changed and tiny models; written anew.

The demo of v1 and its notebooks (base or single file, adapter, scheduler, style LoRA, styles, aspect ratios), the
predictor, and the script of V2 with offload and a second LoRA.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from diffusers.utils import load_image
from PIL import Image
from safetensors.torch import load_file
from support.loras import ATTENTION, FORMS, random_pairs, write
from support.sampling import write_adapter
from support.single_file import write_single_file

from pm.model.adapter_file import strip
from pm.model.base import load_base
from pm.sample import PhotoMakerPipeline as PhotoMakerStableDiffusionXLPipeline

STYLES = {
    "(No style)": ("{prompt}", ""),
    "Cinematic": ("a photo of {prompt} standing next to a street", "a red hat"),
}
ASPECT_RATIOS = {"square": (32, 32), "portrait": (24, 40)}


def _apply_style(name, positive, negative=""):
    p, n = STYLES.get(name, STYLES["(No style)"])
    return p.replace("{prompt}", positive), n + " " + negative


def _image_grid(images, rows, cols, size):
    grid = Image.new("RGB", size=(cols * size, rows * size))
    for i, image in enumerate(images):
        grid.paste(image.resize((size, size)), box=(i % cols * size, i // cols * size))
    return grid


@pytest.fixture
def files(tiny_base, tmp_path) -> dict[str, Path]:
    """What the scripts fetch: the published file, a LoRA, and a folder of photos."""
    found = {"adapter": tmp_path / "release_model" / "photomaker-v1.bin", "lora": tmp_path / "style.safetensors"}
    found["adapter"].parent.mkdir()
    flat = load_file(write_adapter(tiny_base, tmp_path / "flat.safetensors", merge="repeat", seed=1))
    parts = {part: strip(flat, f"{part}.") for part in ("id_encoder", "lora_weights")}
    torch.save(parts, found["adapter"])
    write(found["lora"], FORMS["kohya"](random_pairs(load_base(tiny_base), unet=ATTENTION, alpha=3.0)))
    found["photos"] = tmp_path / "examples" / "newton_man"
    found["photos"].mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(2):
        Image.fromarray(rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(found["photos"] / f"newton_{i}.jpg")
    return found


def _photos(folder):
    names = sorted(os.path.join(folder, name) for name in os.listdir(folder))
    return [load_image(name) for name in names]


def test_the_demo_and_its_notebook(tiny_base, files, tmp_path):
    device = "cpu"
    photomaker_ckpt = str(files["adapter"])
    pipe = PhotoMakerStableDiffusionXLPipeline.from_pretrained(
        str(tiny_base), torch_dtype=torch.bfloat16, use_safetensors=True, variant="fp16"
    ).to(device)
    pipe.load_photomaker_adapter(
        os.path.dirname(photomaker_ckpt),
        subfolder="",
        weight_name=os.path.basename(photomaker_ckpt),
        trigger_word="img",
    )
    pipe.id_encoder.to(device)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.set_adapters(["photomaker"], adapter_weights=[1.0])
    pipe.fuse_lora()

    def generate_image(prompt, negative_prompt, ratio, style, num_steps, style_strength_ratio, num_outputs, seed):
        token = pipe.tokenizer.convert_tokens_to_ids(pipe.trigger_word)
        ids = pipe.tokenizer.encode(prompt)
        if ids.count(token) != 1:
            raise ValueError(f"Cannot find the trigger word '{pipe.trigger_word}' once in text prompt!")
        output_w, output_h = ASPECT_RATIOS[ratio]
        prompt, negative_prompt = _apply_style(style, prompt, negative_prompt)
        start_merge_step = min(30, int(float(style_strength_ratio) / 100 * num_steps))
        return pipe(
            prompt=prompt,
            width=output_w,
            height=output_h,
            input_id_images=_photos(files["photos"]),
            negative_prompt=negative_prompt,
            num_images_per_prompt=num_outputs,
            num_inference_steps=num_steps,
            start_merge_step=start_merge_step,
            generator=torch.Generator(device=device).manual_seed(seed),
            guidance_scale=5,
        ).images

    images = generate_image("a man img in a red shirt", "dog", "portrait", "Cinematic", 5, 20, 2, 42)
    assert [image.size for image in images] == [(24, 40)] * 2
    assert np.array_equal(
        generate_image("a man img in a red shirt", "dog", "portrait", "Cinematic", 5, 20, 2, 42), images
    )
    with pytest.raises(ValueError, match="trigger word"):
        generate_image("a man in a red shirt", "", "square", "(No style)", 2, 20, 1, 0)
    save_path = tmp_path / "outputs"
    os.makedirs(save_path, exist_ok=True)
    for idx, image in enumerate(images):
        image.save(os.path.join(save_path, f"photomaker_{idx:02d}.png"))
    assert _image_grid(images, 1, 2, 16).size == (32, 16)


def test_the_style_notebook(tiny_base, files, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    base_model_path = str(write_single_file(tiny_base, tmp_path / "unstable.safetensors"))
    lora_path, photomaker_path = str(files["lora"]), str(files["adapter"])
    pipe = PhotoMakerStableDiffusionXLPipeline.from_single_file(
        base_model_path, torch_dtype=torch.float32, original_config_file=None, config=tiny_base
    ).to("cpu")
    pipe.load_photomaker_adapter(
        os.path.dirname(photomaker_path),
        subfolder="",
        weight_name=os.path.basename(photomaker_path),
        trigger_word="img",
    )
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)

    def draw():
        return pipe(
            prompt="A girl img riding a dog",
            input_id_images=_photos(files["photos"])[:1],
            negative_prompt="red",
            num_images_per_prompt=2,
            num_inference_steps=4,
            start_merge_step=0,
            generator=torch.Generator(device="cpu").manual_seed(42),
            output_type="latent",
        ).images

    plain = draw()
    pipe.load_lora_weights(os.path.dirname(lora_path), weight_name=os.path.basename(lora_path), adapter_name="more_art")
    pipe.set_adapters(["photomaker", "more_art"], adapter_weights=[1.0, 0.5])
    pipe.fuse_lora()
    half = draw()
    assert pipe.get_active_adapters() == ["photomaker", "more_art"]
    pipe.set_adapters(["photomaker", "more_art"], adapter_weights=[1.0, 1.0])
    full = draw()
    pipe.set_adapters(["photomaker", "more_art"], adapter_weights=[1.0, 1.0])
    pipe.fuse_lora(lora_scale=0.5)  # of both, the adapter's own too
    both = draw()
    pipe.unfuse_lora()
    distances = [(a - plain).abs().max() for a in (half, full, both)]
    assert min(distances) > 1e-3 and (half - full).abs().max() > 1e-3
    pipe.set_adapters("photomaker")
    assert torch.equal(draw(), plain)
    pipe.unload_lora_weights()
    assert pipe.loras == () and torch.equal(draw(), plain)


def test_the_script_of_v2_with_a_v1_adapter(tiny_base, files, tmp_path):
    pipe = PhotoMakerStableDiffusionXLPipeline.from_pretrained(str(tiny_base), torch_dtype=torch.float32).to("cpu")
    path = str(files["adapter"])
    pipe.load_photomaker_adapter(
        os.path.dirname(path), subfolder="", weight_name=os.path.basename(path), trigger_word="img"
    )
    pipe.load_lora_weights(str(files["lora"].parent), weight_name=files["lora"].name, adapter_name="lcm-lora")
    pipe.set_adapters(["photomaker", "lcm-lora"], adapter_weights=[1.0, 0.5])
    pipe.fuse_lora()
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.enable_model_cpu_offload()
    images = pipe(
        "a photo of a woman img, standing",
        negative_prompt="(red, dog), hat",
        input_id_images=_photos(files["photos"]),
        num_images_per_prompt=2,
        num_inference_steps=12,
        start_merge_step=10,
    ).images
    for idx, img in enumerate(images):
        img.save(tmp_path / f"output_pmv2_{idx}.jpg")
    assert len(images) == 2
