"""Few-step LoRAs from a training run to the picture, on the tiny base: ours and diffusers'."""

import numpy as np
import pytest
import torch
import yaml
from diffusers import LCMScheduler, StableDiffusionXLPipeline
from support.sampling import worst
from support.training import ROOT, run_config

from pm.errors import CheckpointError
from pm.model.adapter_file import load_adapter
from pm.model.base import load_base
from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.lora import lora_off
from pm.model.plain_lora import PlainLora
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import Request
from pm.train.callbacks.base import Callback
from pm.train.export import ExportConfig, export
from pm.train.run.context import LocalContext
from pm.train.run.workers import run_worker


def read(name):
    return yaml.safe_load((ROOT / f"conf/{name}.yaml").read_text())


def config(dataset, base, **over):
    lora = read("model/lora")["adapter"] | {"lora_rank": 4}
    settings = {"adapter": lora, "train__objective": read("objective/lcm"), "train__max_references": 1}
    return run_config(dataset, base, **(settings | over))


@pytest.fixture(scope="module")
def run(tiny_dataset, tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lcm") / "run"
    sampler = read("sampler/toon_lcm") | {"loras": []}
    over = {"train__steps": 12, "train__lr_lora": 3e-2, "train__validate_every": 12, "validation__sampler": sampler}
    metrics = run_worker(config(tiny_dataset, tiny_base, **over), LocalContext(folder), {}, callbacks=[])
    assert np.isfinite(metrics["loss"])
    return folder


def test_the_file_is_a_lora_for_us_and_for_diffusers(run, tiny_base):
    """The same picture in four steps without guidance, with the noise of each step from one generator."""
    request = Request("a man in a red shirt", seed=3, steps=4, guidance=1.0, schedule="lcm")
    ours = PhotoMakerPipeline.from_pretrained(tiny_base)
    name = ours.load_lora(run / "adapter.safetensors", "few")
    plain = ours.generate([request])[0]
    made = ours.generate([Request(**vars(request) | {"loras": {name: 1.0}})])[0]
    assert worst(plain, made) > 4

    theirs = StableDiffusionXLPipeline.from_pretrained(tiny_base)
    theirs.watermark = None
    theirs.scheduler = LCMScheduler.from_config(theirs.scheduler.config)
    theirs.set_progress_bar_config(disable=True)
    theirs.load_lora_weights(run, weight_name="adapter.safetensors")
    generator = torch.Generator().manual_seed(request.seed)
    latents = torch.randn(1, 4, 8, 8, generator=generator)
    expected = theirs(
        request.prompt, num_inference_steps=4, guidance_scale=1.0, latents=latents, generator=generator
    ).images[0]
    assert worst(made, expected) <= 1


def test_it_is_no_adapter_and_says_so(run, tiny_base):
    with pytest.raises(CheckpointError, match="is a LoRA, which knows no person: give it as loras="):
        PhotoMakerPipeline.from_pretrained(tiny_base, run / "adapter.safetensors")


def test_a_checkpoint_exports_the_same_and_a_run_starts_from_it(run, tiny_dataset, tiny_base, tmp_path):
    state, meta = load_adapter(run / "adapter.safetensors")
    assert meta.kind == "lora" and all(key.startswith("unet.") for key in state)
    exported = export(ExportConfig(str(run), "newest", "native", str(tmp_path / "a.safetensors"), None, None, ()))
    again = load_adapter(exported)[0]
    assert all(torch.equal(again[key], value) for key, value in state.items())
    assert list((run / "validation").glob("*.png"))
    still = {"train__lr_lora": 0.0, "train__steps": 1, "init": str(run / "adapter.safetensors")}
    run_worker(config(tiny_dataset, tiny_base, **still), LocalContext(tmp_path / "then"), {}, callbacks=[])
    then = load_adapter(tmp_path / "then" / "adapter.safetensors")[0]
    assert all(torch.equal(then[key], value) for key, value in state.items())


class Losses(Callback):
    def __init__(self):
        self.values = []

    def on_log(self, metrics):
        self.values.append(metrics["loss"])


def test_the_loss_falls(tiny_dataset, tiny_base, tmp_path):
    seen, over = Losses(), {"train__steps": 60, "train__batch_size": 8, "train__checkpoint_every": None}
    run_worker(config(tiny_dataset, tiny_base, **over), LocalContext(tmp_path), {}, callbacks=[seen])
    assert len(seen.values) == 60 and np.mean(seen.values[-15:]) < 0.9 * np.mean(seen.values[:15])


def test_without_its_lora_the_unet_is_the_base(tiny_base):
    base = load_base(tiny_base)
    inputs = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([10, 900])
    model = PlainLora(base, 4, ("to_q", "to_v"), "img", 4)
    text = TextFeatures(model.null_embeds.repeat(2, 1, 1), model.null_pooled.repeat(2, 1))
    conditioning = Conditioning.from_text(text, torch.zeros(2, 6))
    before = model.predict(*inputs, conditioning)
    with torch.no_grad():
        for parameter in model.parameter_groups()["lora"]:
            parameter.add_(0.1)
    changed = model.predict(*inputs, conditioning)
    with lora_off(model.unet):
        torch.testing.assert_close(model.predict(*inputs, conditioning), before)
    assert torch.equal(model.predict(*inputs, conditioning), changed) and not torch.allclose(changed, before)
    assert all(parameter.requires_grad for parameter in model.parameter_groups()["lora"])
