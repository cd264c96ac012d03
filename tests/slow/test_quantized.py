"""8-bit weights by torchao: pictures near those of the plain U-Net, adapters that keep their whole difference."""

import pytest
import torch
from support.sampling import worst, write_adapter, write_fastcomposer

from pm.errors import CheckpointError, ConfigError
from pm.model.quantized import QuantizedSwitch, is_quantized
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import Request

pytest.importorskip("torchao", reason="the extra quantize is not installed")
TEXT = "a man img in a red shirt"


@pytest.fixture(scope="module")
def files(tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantized")
    return [write_adapter(tiny_base, folder / f"{seed}.safetensors", seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="module", params=["int8", "fp8"])
def pipelines(request, tiny_base, files):
    """The plain one and the one in 8 bits, each with two adapters."""
    found = []
    for kind in (None, request.param):
        pipeline = PhotoMakerPipeline.from_pretrained(tiny_base, quantize=kind)
        for name, file in zip(("one", "two"), files, strict=True):
            pipeline.load_photomaker_adapter(file, adapter_name=name)
        found.append(pipeline)
    return (*found, {"int8": 0.02, "fp8": 0.06}[request.param])


def outputs(pipeline, change) -> torch.Tensor:
    """Of the U-Net with an adapter's change, for fixed inputs."""
    unet, generator = pipeline.base.unet, torch.Generator().manual_seed(0)
    x, text = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 77, 80, generator=generator)
    added = {"text_embeds": torch.randn(2, 48, generator=generator), "time_ids": torch.full((2, 6), 32.0)}
    pipeline._switch.use(change)
    with torch.no_grad():
        return unet(x, torch.tensor([3, 700]), text, added_cond_kwargs=added).sample


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_an_adapter_keeps_its_whole_difference(pipelines):
    """In 8 bits the base is off by the rounding; what an adapter changes is not off by more."""
    plain, eight, most = pipelines
    assert is_quantized(eight.base.unet) and not is_quantized(plain.base.unet)
    assert 0 < error(outputs(eight, None), outputs(plain, None)) < most
    for name in ("one", "two"):
        changes = [p.adapter(name).lora for p in (plain, eight)]
        ours, theirs = outputs(eight, changes[1]), outputs(plain, changes[0])
        assert error(ours, theirs) < most
        difference = error(ours - outputs(eight, None), theirs - outputs(plain, None))
        assert difference < 4 * most, difference


def test_a_difference_far_below_the_step_is_not_rounded_away(pipelines):
    plain, eight, most = pipelines
    small = []
    for pipeline in (plain, eight):
        faint = pipeline.adapter("one").lora.scaled(1e-3)
        small.append((outputs(pipeline, faint) - outputs(pipeline, None)).double())
    assert error(small[1], small[0]) < 0.2


def test_switching_back_and_forth_changes_nothing(pipelines):
    _, eight, _ = pipelines
    assert isinstance(eight._switch, QuantizedSwitch)
    one, two = (eight.adapter(name).lora for name in ("one", "two"))
    first = [outputs(eight, change) for change in (None, one, two)]
    again = [outputs(eight, change) for change in (two, None, one)]
    for a, b in ((0, 1), (1, 2), (2, 0)):
        assert torch.equal(first[a], again[b])


def test_rows_of_two_adapters_and_the_base_in_one_batch_are_what_they_are_alone(pipelines, photos):
    _, eight, _ = pipelines
    requests = [
        Request(TEXT, photos[:1], steps=3, adapter=name, seed=i) for i, name in enumerate(("one", "two", "one"))
    ]
    requests.append(Request("a man in a red shirt", steps=3, adapter="base"))
    together = eight.generate(requests)
    for request, image in zip(requests, together, strict=True):
        assert worst(image, eight.generate([request])[0]) <= 1


def test_pictures_are_near_those_of_the_plain_pipeline(pipelines, photos):
    plain, eight, _ = pipelines
    request = Request(TEXT, photos[:2], steps=4, adapter="one")
    differences = [
        abs(a - b)
        for a, b in zip(plain.generate([request])[0].tobytes(), eight.generate([request])[0].tobytes(), strict=True)
    ]
    assert 0 < sum(differences) / len(differences) < 4  # of 255


def test_weights_take_a_byte_each(pipelines):
    _, eight, _ = pipelines
    linear = [m for m in eight.base.unet.modules() if isinstance(m, torch.nn.Linear)]
    assert all(m.weight.qdata.dtype.itemsize == 1 for m in linear) and len(linear) > 20
    with pytest.raises(CheckpointError, match="a U-Net in 8 bits cannot be cast to torch.bfloat16; load it anew"):
        eight.to(torch.bfloat16)
    assert eight.to("cpu") is eight


def test_a_whole_unet_of_an_adapters_own(tiny_base, photos, tmp_path):
    file = write_fastcomposer(tiny_base, tmp_path / "f.safetensors")
    pictures = []
    for kind in (None, "int8"):
        pipeline = PhotoMakerPipeline.from_pretrained(tiny_base, file, quantize=kind)
        pictures.append(pipeline.generate([Request(TEXT, photos[:1], steps=3)])[0])
        assert is_quantized(pipeline.base.unet) == (kind is not None)
        pipeline.plain_unet()
    mean = sum(abs(a - b) for a, b in zip(*(p.tobytes() for p in pictures), strict=True)) / len(pictures[0].tobytes())
    assert 0 < mean < 4


def test_products_in_8_bits(tiny_base, files, monkeypatch):
    """Their rounding changes with what flows through, so an adapter's difference is compared as a whole."""
    plain, eight = (
        PhotoMakerPipeline.from_pretrained(tiny_base, files[0], quantize=kind) for kind in (None, "int8_dynamic")
    )
    for changes in ((None, None), (plain.adapter().lora, eight.adapter().lora)):
        assert 0 < error(outputs(eight, changes[1]), outputs(plain, changes[0])) < 0.04
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="quantize=fp8_dynamic cannot be used here: .*CUDA.*; use int8 or fp8"):
        PhotoMakerPipeline.from_pretrained(tiny_base, quantize="fp8_dynamic")


def test_an_unknown_format_is_one_line(tiny_base):
    with pytest.raises(ConfigError, match="quantize='int4' is not one of int8, fp8"):
        PhotoMakerPipeline.from_pretrained(tiny_base, quantize="int4")


@pytest.fixture(scope="module")
def photos():
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)) for _ in range(2)]
