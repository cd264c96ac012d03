"""Devices, precision and offload. Without an accelerator the CPU plays it: hooks and exchanges are the real ones."""

import logging
import types

import numpy as np
import pytest
import torch
from PIL import Image
from support.sampling import write_adapter

from pm.errors import ConfigError, RequestError
from pm.model.base import load_base
from pm.model.offload import Offloader
from pm.sample import BASE, PhotoMakerPipeline, Request
from pm.sample import devices as placing
from pm.sample.devices import best_device, pick_device, pick_dtype

MAN = "a man img in a red shirt"


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 32 + 4 * i, 3), dtype=np.uint8)) for i in range(3)]


@pytest.fixture
def pipeline(tiny_base, tmp_path) -> PhotoMakerPipeline:
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base)
    for name, merge, seed in (("one", "insert", 1), ("two", "repeat", 2)):
        file = write_adapter(tiny_base, tmp_path / f"{name}.safetensors", merge=merge, seed=seed)
        pipeline.load_photomaker_adapter(file, adapter_name=name)
    return pipeline


def _requests(photos):
    return [
        Request(MAN, photos[:2], steps=3, seed=1, adapter="one"),
        Request(MAN, photos[2:], steps=4, seed=2, adapter="two", merge_step=1),
        Request("a man in a red shirt", steps=2, seed=3, adapter=BASE, negative_prompt="a hat"),
    ]


@pytest.mark.parametrize("kind", ["model", "sequential"])
def test_offloaded_parts_draw_the_same(pipeline, photos, kind):
    requests = _requests(photos)
    expected = [np.asarray(image) for image in pipeline.generate(requests)]
    offloader = Offloader(torch.device("cpu"), kind)
    pipeline._start_offload(offloader)
    found = [np.asarray(image) for image in pipeline.generate(requests)]
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    assert offloader.visits > 10
    pipeline.disable_offload()
    visits = offloader.visits
    again = [np.asarray(image) for image in pipeline.generate(requests)]
    assert all(np.array_equal(a, b) for a, b in zip(expected, again, strict=True))
    assert offloader.visits == visits


def _there(offloader):
    return set(offloader._resting)


def test_whole_parts_visit_one_at_a_time(tiny_base):
    base, offloader = load_base(tiny_base), Offloader(torch.device("cpu"), "model")
    text, unet, seen = base.text_encoders[0], base.unet, []
    offloader.add(text)
    offloader.add(unet, stays=True)
    for module in (text, unet):  # while they compute
        next(iter(module.children())).register_forward_pre_hook(lambda *_: seen.append(_there(offloader)))
    _call_unet(base)
    assert _there(offloader) == {id(unet)}  # it stays between its steps
    text(torch.zeros(1, 77, dtype=torch.long))
    assert _there(offloader) == set()
    assert {id(unet)} in seen and {id(text)} in seen and all(len(each) == 1 for each in seen)
    assert unet.device == torch.device("cpu") and type(unet).__name__ == "UNet2DConditionModel"


def test_single_layers_visit_one_at_a_time(tiny_base):
    base, offloader, seen = load_base(tiny_base), Offloader(torch.device("cpu"), "sequential"), []
    offloader.add(base.unet, stays=True)
    for layer in base.unet.modules():
        layer.register_forward_pre_hook(lambda *_: seen.append(_there(offloader)))
    _call_unet(base)
    assert max(map(len, seen)) == 1 and _there(offloader) == set()
    layers = [m for m in base.unet.modules() if any(True for _ in m.parameters(recurse=False))]
    assert offloader.visits == len(layers)


def _call_unet(base):
    text, pooled = torch.zeros(1, 77, base.text_width), torch.zeros(1, base.pooled_width)
    told = {"text_embeds": pooled, "time_ids": torch.zeros(1, 6)}
    base.unet(torch.zeros(1, 4, 8, 8), 5, encoder_hidden_states=text, added_cond_kwargs=told)


def test_moving_ends_an_offload(pipeline, photos):
    pipeline._start_offload(Offloader(torch.device("cpu"), "model"))
    pipeline.to(torch.float64)
    assert pipeline._offloader is not None and pipeline.dtype == torch.float64
    pipeline.to("cpu", dtype=torch.float32)
    assert pipeline._offloader is None and pipeline._switch.before is None
    pipeline.generate(_requests(photos)[:1])


def test_an_adapter_that_comes_later_is_offloaded_too(pipeline, photos, tiny_base, tmp_path):
    pipeline._start_offload(Offloader(torch.device("cpu"), "model"))
    file = write_adapter(tiny_base, tmp_path / "late.safetensors", seed=5)
    pipeline.load_photomaker_adapter(file, adapter_name="late")
    visits = pipeline._offloader.visits
    pipeline.embed(pipeline.references(photos[:1], preprocess="none"), "late")
    assert pipeline._offloader.visits > visits


def test_without_an_accelerator_there_is_nothing_to_offload(pipeline, caplog, monkeypatch):
    monkeypatch.setattr(placing, "best_device", lambda: torch.device("cpu"))
    with caplog.at_level(logging.WARNING):
        pipeline.enable_model_cpu_offload()
    assert "no accelerator to offload from" in caplog.text and pipeline._offloader is None
    pipeline.enable_sequential_cpu_offload(device="cpu")
    with pytest.raises(RequestError, match="both gpu_id=0 and device=cpu"):
        pipeline.enable_model_cpu_offload(0, "cpu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_everywhere(pipeline, photos, dtype):
    """All settings at once: nothing mixes precisions, and the picture is nearly the same."""
    requests = [
        Request(MAN, photos[:2], steps=3, seed=1, adapter="one", guidance_rescale=0.5, clip_skip=1, prompt_2=MAN),
        Request(MAN, photos[2:], steps=3, seed=2, adapter="two", negative_original_size=(9, 9), merge_step=1),
    ]
    full = pipeline.latents(requests)
    half = pipeline.to(dtype).latents(requests)
    for a, b in zip(full, half, strict=True):
        assert (a - b).abs().max() < 0.25 * a.abs().max()
    pipeline.decode(half[0])
    assert pipeline.id_encoder.visual_projection.weight.dtype == dtype


def test_tiles_of_the_vae(pipeline, photos):
    request = _requests(photos)[0]
    pipeline.vae.tile_latent_min_size, pipeline.vae.tile_sample_min_size = 4, 16
    whole = np.asarray(pipeline.generate([request])[0]).astype(int)
    pipeline.enable_vae_tiling()
    tiled = np.asarray(pipeline.generate([request])[0]).astype(int)
    pipeline.disable_vae_tiling()
    assert tiled.shape == whole.shape and (tiled != whole).any()
    assert (np.asarray(pipeline.generate([request])[0]) == whole).all()
    pipeline.enable_vae_slicing()
    assert pipeline.vae.use_slicing
    pipeline.disable_vae_slicing()
    for name in ("enable_attention_slicing", "enable_xformers_memory_efficient_attention"):
        getattr(pipeline, name)()


@pytest.mark.parametrize(
    ("there", "expected"),
    [({"cuda"}, "cuda"), ({"mps"}, "mps"), ({"xpu"}, "xpu"), (set(), "cpu"), ({"cuda", "xpu"}, "cuda")],
)
def test_auto_knows_the_accelerators(monkeypatch, there, expected):
    for name in ("cuda", "xpu"):
        monkeypatch.setattr(getattr(torch, name), "is_available", lambda name=name: name in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    assert pick_device("auto") == best_device() == torch.device(expected)
    wanted = {"cuda": torch.bfloat16, "xpu": torch.bfloat16, "mps": torch.float16, "cpu": torch.float32}[expected]
    assert pick_dtype("auto", torch.device(expected)) == wanted


@pytest.mark.parametrize("name", ["mps", "cuda:7", "xpu", "meta", "gpu", "cpu:3"])
def test_devices_that_are_not_there(name, pipeline, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends, "mps", types.SimpleNamespace(is_available=lambda: False))
    with pytest.raises(ConfigError, match=f"device='?{name}'? is not"):
        pipeline.to(name)
