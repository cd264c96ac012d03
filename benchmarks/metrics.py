"""What each metric costs a picture on one core, beside what SDXL costs to make it.

    python benchmarks/metrics.py                # all, about four minutes
    python benchmarks/metrics.py clip_t dino    # some

Networks have their real sizes and random weights: time does not depend on them. Pictures are 1024 x 1024 with one face;
the person's photos were seen before, as from the second prompt on. What is timed is processor time of one thread, so a
busy machine does not count. Operations are counted on torch's meta device.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPVisionModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from sdxl_budget import SDXL_UNET  # noqa: E402

from pm.config import from_mapping  # noqa: E402
from pm.evaluate.metrics.base import MetricChoice, Pictures  # noqa: E402
from pm.evaluate.models.backbones import Backbone  # noqa: E402
from pm.evaluate.models.efficientnet import EfficientNetLite0  # noqa: E402
from pm.evaluate.models.inception import Inception  # noqa: E402
from pm.methods.trial import Photo, Trial  # noqa: E402
from pm.photo.pixels import read_photo  # noqa: E402
from serving.compose import composed, prepare  # noqa: E402

PHOTO = ROOT / "tests" / "support" / "astronaut" / "photo.jpg"
SIDE, IMAGES, REFERENCES, HELD_OUT = 1024, 4, 4, 4
STEPS = 50
CLIP_L = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
TEXT_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
VIT_S = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 6}
ORDER = ("clip_t", "clip_i", "dino", "faces_found", "face_similarity", "copy_paste", "pose_copy", "expression_copy")
ORDER += ("face_diversity", "lpips", "fid", "effnet_similarity", "frechet_effnet", "squeezenet_distance")
ORDER += ("squeezenet_face_diversity",)


def pictures(seed: int, count: int) -> list[np.ndarray]:
    """Different ones of the same face."""
    rng = np.random.default_rng(seed)
    photo = np.asarray(Image.fromarray(read_photo(PHOTO)).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    return [np.clip(photo + rng.normal(0, 6, photo.shape), 0, 255).astype(np.uint8) for _ in range(count)]


def write_models(folder: Path) -> dict[str, dict[str, str]]:
    """Models of the real sizes; returns the settings that name them, by metric."""
    vision = CLIP_L | {"image_size": 224, "patch_size": 14, "projection_dim": 768}
    with torch.device("meta"):
        text = TEXT_L | {"projection_dim": 768}
        clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=768))
    clip.to_empty(device="cpu")
    for value in clip.parameters():
        torch.nn.init.normal_(value.data, std=0.02)
    clip.save_pretrained(folder / "clip")
    CLIPImageProcessorPil().save_pretrained(folder / "clip")
    words = ROOT / "assets" / "toon" / "tokenizer"
    for file in words.iterdir():
        (folder / "clip" / file.name).write_bytes(file.read_bytes())
    ViTModel(ViTConfig(**VIT_S, patch_size=16), add_pooling_layer=False).save_pretrained(folder / "vit")
    ViTImageProcessorPil(size={"height": 224, "width": 224}).save_pretrained(folder / "vit")
    torch.save(Backbone("vgg").state_dict(), folder / "vgg.pth")
    torch.save(Inception().state_dict(), folder / "inception.pth")
    paths = {"clip_t": "clip", "clip_i": "clip", "dino": "vit", "lpips": "vgg.pth", "face_diversity": "vgg.pth"}
    return {name: {"path": str(folder / file)} for name, file in (paths | {"fid": "inception.pth"}).items()}


def operations(build: Callable[[], torch.nn.Module], *shape: int) -> float:
    """Multiplications and additions of one pass, in 10¹²."""
    with torch.device("meta"):
        network, pixels = build(), torch.empty(1, *shape)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(pixels)
    return counter.get_total_flops() / 1e12


def of_networks() -> dict[str, float]:
    """Of one picture, by network."""
    vision = CLIPConfig(vision_config=CLIP_L | {"image_size": 224, "patch_size": 14}).vision_config
    return {
        "CLIP ViT-L/14": operations(lambda: CLIPVisionModel(vision), 3, 224, 224),
        "DINO ViT-S/16": operations(lambda: ViTModel(ViTConfig(**VIT_S, patch_size=16)), 3, 224, 224),
        "VGG-16, 224 px": operations(lambda: Backbone("vgg"), 3, 224, 224),
        "Inception v3": operations(Inception, 3, 299, 299),
        "EfficientNet-lite0": operations(EfficientNetLite0, 3, 224, 224),
        "SqueezeNet 1.1, 224 px": operations(lambda: Backbone("squeeze"), 3, 224, 224),
    }


def of_sdxl() -> float:
    """Of a picture: the guided steps; what decodes it is left out."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL_UNET)
        latents, step, text = torch.empty(2, 4, SIDE // 8, SIDE // 8), torch.tensor(1), torch.empty(2, 77, 2048)
        more = {"text_embeds": torch.empty(2, 1280), "time_ids": torch.empty(2, 6)}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        unet(latents, step, text, added_cond_kwargs=more)
    return STEPS * counter.get_total_flops() / 1e12


def seconds(choice: MetricChoice, batch: list[Pictures]) -> float:
    """Processor time of a picture; the first trial makes the person's photos known."""
    metric = choice.load("cpu")
    metric.measure(batch[:1])
    start = time.process_time()
    metric.measure(batch[1:])
    return (time.process_time() - start) / sum(len(p.images) for p in batch[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics", nargs="*", default=ORDER)
    names = parser.parse_args().metrics
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    prepare()
    os.environ["HF_HUB_OFFLINE"] = "1"
    photos = [Photo(image, None) for image in pictures(0, REFERENCES + HELD_OUT)]
    trial = Trial("astronaut", "woman", "{person}", tuple(photos[:4]), tuple(photos[4:]), tuple(range(IMAGES)))
    batch = [Pictures(trial, pictures(seed, IMAGES)) for seed in (1, 2, 3)]
    total = 0.0
    with tempfile.TemporaryDirectory() as folder:
        settings = write_models(Path(folder))
        print("| metric, in this order | seconds a picture |\n|---|---|")
        for name in names:
            choice = chosen(name, settings.get(name, {}))
            spent = seconds(choice, batch)
            total += spent
            print(f"| {name} | {spent:.3f} |", flush=True)
    print(f"| together | {total:.3f} |\n\n| network | 10¹² operations |\n|---|---|")
    for name, count in (of_networks() | {f"SDXL, {STEPS} guided steps of {SIDE} px": of_sdxl()}).items():
        print(f"| {name} | {count:,.4g} |", flush=True)


def chosen(name: str, settings: dict[str, str]) -> MetricChoice:
    config = composed("evaluate", [f"metrics=[{name}]"])
    return from_mapping(MetricChoice, config["metrics"][0] | settings)


if __name__ == "__main__":
    main()
