"""Requests with LoRAs: each row its own, in any company, within a budget of memory."""

from dataclasses import replace

import pytest
import torch
from support.loras import TEXT, as_kohya, as_peft, random_pairs, write
from support.sampling import worst

from pm.errors import CheckpointError, RequestError
from pm.model.base import load_base
from pm.sample.loras import LoraStore, find_lora
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import BASE, Request


@pytest.fixture(scope="module")
def files(tiny_base, tmp_path_factory):
    base, folder = load_base(tiny_base), tmp_path_factory.mktemp("loras")
    return {
        "ink": write(folder / "ink.safetensors", as_peft(random_pairs(base, 1))),
        "oil": write(folder / "oil.safetensors", as_kohya(random_pairs(base, 2, text=TEXT, mixed=True))),
        "words": write(folder / "words.safetensors", as_peft(random_pairs(base, 3, unet="", text=TEXT))),
    }


@pytest.fixture(scope="module")
def pipeline(tiny_base, adapter_files, files) -> PhotoMakerPipeline:
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base)
    for name, file in adapter_files.items():
        pipeline.load_photomaker_adapter(file, adapter_name=name)
    assert [pipeline.load_lora(file) for file in files.values()] == list(files)
    return pipeline


def test_each_row_of_a_batch_is_what_it_is_alone(pipeline, photos):
    person = Request("a man img in a red shirt", photos[:2], seed=1, steps=2, adapter="one")
    plain = Request("a man in a red shirt", seed=2, steps=2, adapter=BASE)
    requests = [
        person,
        replace(person, loras={"ink": 0.8}),
        replace(person, loras={"oil": 0.5, "ink": -0.3}, adapter="two", negative_prompt="a hat"),
        replace(person, loras={"ink": 0.3, "oil": 1.0}, guidance=1.0),
        plain,
        replace(plain, loras={"words": 1.0}, negative_prompt="a hat"),
        replace(plain, loras={"ink": 1.0, "words": 0.5, "oil": 0.5}, width=48),
    ]
    alone = [pipeline.generate([request])[0] for request in requests]
    for image, own in zip(pipeline.generate(requests, batch_size=4), alone, strict=True):
        assert worst(image, own) <= 1
    different = [i for i in range(1, 4) if worst(alone[i], alone[0]) > 8]
    assert different == [1, 2, 3]
    assert worst(alone[5], alone[4]) > 2
    assert worst(pipeline.generate([person])[0], alone[0]) == 0  # nothing stays behind


def test_strengths_are_linear_in_the_layers(pipeline, photos):
    """0 is none; a LoRA at 0.6 is the same as itself twice, at 0.4 and 0.2; the order is of no account."""
    request = Request("a man img", photos[:1], seed=3, steps=2, adapter="one")
    pipeline._loras.add("again", pipeline._loras._sources["oil"])
    plain, *others = pipeline.latents(
        [
            replace(request, loras=loras)
            for loras in (
                {},
                {"oil": 0.0},
                {"oil": 0.6},
                {"oil": 0.4, "again": 0.2},
                {"again": 0.2, "oil": 0.4},
            )
        ]
    )
    assert torch.equal(plain, others[0])
    assert (plain - others[1]).abs().max() > 0.05
    torch.testing.assert_close(others[2], others[1], atol=1e-4, rtol=1e-3)
    assert torch.equal(others[2], others[3])
    pipeline.unload_lora("again")


def test_names_and_strengths_are_checked(pipeline):
    request = Request("a man", adapter=BASE)
    for loras, message in (
        ({"inc": 1.0}, "LoRA 'inc' is not loaded; did you mean 'ink'.*known: ink, oil, words"),
        ({"ink": float("nan")}, "strength nan"),
        ({"ink": 11}, "from -10 to 10"),
        ({"ink": "0.5"}, "strength '0.5' must be a number"),
        ({"ink": True}, "strength True"),
        ({"": 1.0}, "no name"),
        (["ink:0.8"], "must be a mapping of names to strengths"),
        (None, "must be a mapping"),
    ):
        with pytest.raises(RequestError, match=message):
            pipeline.check(replace(request, loras=loras))


def test_weights_are_kept_within_a_budget(tiny_base, files):
    base = load_base(tiny_base)
    store = LoraStore(base, budget=0)
    for name, file in files.items():
        store.add(name, file)
        assert store.nbytes == 0  # nothing is read before it is used
    held = store.take({"ink": 1.0, "oil": 0.5})
    assert len(store._kept) == 1  # the last one
    again = store.take({"ink": 0.2, "oil": 0.5})
    assert again.unet.together is not held.unet.together  # read again; the rows on their way keep theirs
    roomy = LoraStore(base, budget=1 << 30)
    for name, file in files.items():
        roomy.add(name, file)
    one, two = roomy.take({"ink": 1.0, "oil": 0.5}), roomy.take({"oil": 0.1, "ink": 0.5})
    assert one.unet.together is two.unet.together
    assert roomy.nbytes > 0
    roomy.drop_weights()
    assert roomy.nbytes == 0


def test_a_file_that_goes_bad_is_said(tiny_base, files, tmp_path):
    base = load_base(tiny_base)
    state = as_peft(random_pairs(base, 1))
    file = write(tmp_path / "nan.safetensors", state | {next(iter(state)): torch.full((4, 32), float("nan"))})
    pipeline = PhotoMakerPipeline(load_base(tiny_base))
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        pipeline.load_lora(file)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(files["ink"].read_bytes())
    pipeline.load_lora(copy, "copy")
    expected = pipeline.latents([Request("a man", steps=1, loras={"copy": 1.0})])[0]
    copy.write_bytes(b"")  # the weights in use are a copy
    assert torch.equal(pipeline.latents([Request("a man", steps=1, loras={"copy": 1.0})])[0], expected)
    pipeline.to(torch.float64)  # everything is read again
    with pytest.raises(CheckpointError, match="is empty"):
        pipeline.latents([Request("a man", steps=1, loras={"copy": 1.0})])


def test_where_loras_are_found(files, tmp_path):
    assert find_lora(files["ink"]) == files["ink"]
    odd = tmp_path / "a name: with 0.5"
    odd.mkdir()
    with pytest.raises(CheckpointError, match=r"it has no \.safetensors file"):
        find_lora(odd)
    one = odd / "one.safetensors"
    one.write_bytes(files["ink"].read_bytes())
    assert find_lora(odd) == one
    (odd / "two.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"one\.safetensors, two\.safetensors"):
        find_lora(odd)
    assert find_lora(odd, "two.safetensors").name == "two.safetensors"
    (odd / "pytorch_lora_weights.safetensors").write_bytes(b"")
    assert find_lora(odd).name == "pytorch_lora_weights.safetensors"
    for place in ("missing.safetensors", "./owner/name", "loras/style.safetensors"):
        with pytest.raises(CheckpointError, match="does not exist"):
            find_lora(place)
    with pytest.raises(CheckpointError, match=r"style\.safetensors be fetched"):
        find_lora("owner/name/style.safetensors")
