"""A checkpoint in one file is the base that it was made of."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.single_file import write_single_file

from pm.errors import CheckpointError
from pm.model import single_file
from pm.sample import PhotoMakerPipeline, Request

REQUEST = Request("a man in a red shirt", seed=3, steps=3, negative_prompt="a hat")


@pytest.fixture(scope="module")
def file(tiny_base, tmp_path_factory):
    return write_single_file(tiny_base, tmp_path_factory.mktemp("civitai_models") / "community.safetensors")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_draws_what_the_folder_draws(file, tiny_base, cache, monkeypatch):
    expected = PhotoMakerPipeline.from_pretrained(tiny_base).generate([REQUEST])[0]
    pipe = PhotoMakerPipeline.from_single_file(
        str(file), config=tiny_base, torch_dtype=torch.float32, original_config_file=None
    ).to("cpu")
    assert np.array_equal(pipe.generate([REQUEST])[0], expected)
    monkeypatch.setattr(single_file, "_convert", pytest.fail)  # the second time it is there
    again = PhotoMakerPipeline.from_single_file(file, config=tiny_base)
    assert again.base.path == pipe.base.path and str(cache) in str(pipe.base.path)
    assert again.base.fingerprint == pipe.base.fingerprint
    assert PhotoMakerPipeline.from_pretrained(pipe.base.path).base.fingerprint == pipe.base.fingerprint


def test_what_is_refused(file, tiny_base, tmp_path, cache):
    call = PhotoMakerPipeline.from_single_file
    with pytest.raises(CheckpointError, match="is no .safetensors file; pickled checkpoints can run code"):
        call(tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match="does not exist"):
        call(tmp_path / "nothing.safetensors")
    with pytest.raises(CheckpointError, match="original_config_file is not read; give config="):
        call(file, original_config_file="sdxl.yaml")
    save_file({"lora.down": torch.zeros(1)}, tmp_path / "lora.safetensors")
    with pytest.raises(CheckpointError, match="is no checkpoint of Stable Diffusion"):
        call(tmp_path / "lora.safetensors")
    cut = {name: value for name, value in load_file(file).items() if "input_blocks.1" not in name}
    save_file(cut, tmp_path / "cut.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint") as caught:
        call(tmp_path / "cut.safetensors", config=tiny_base)
    assert "\n" not in str(caught.value)
    assert not [p for p in (cache / "photomaker" / "checkpoints").iterdir() if p.is_dir()]
