"""What a file of weights is, if it is not what its name promises: one line that says so and what to do."""

import pickle
import shutil

import pytest
import torch
from safetensors.torch import save

from pm.errors import CheckpointError
from pm.model.adapter_file import load_adapter
from pm.model.base import load_base
from pm.model.base_sizes import fingerprint
from pm.model.config import BaseConfig
from pm.model.id_encoder import load_tower
from pm.toon.probe import load_probe
from pm.weights import check_weights

WHOLE = save({"a": torch.arange(100.0), "b": torch.ones(3)}, {"format": "pt"})
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
BAD = {
    "pointer": (POINTER, "is a Git LFS pointer, not the weights; run 'git lfs pull'"),
    "page": (
        b"\n<!DOCTYPE html><html><body>404",
        "is a web page saved under this name .* and download the file itself",
    ),
    "empty": (b"", "is empty; copy or download it again"),
    "cut in the tensors": (WHOLE[:-5], f"is cut short \\({len(WHOLE) - 5} of {len(WHOLE)} bytes\\)"),
    "cut in the header": (WHOLE[:60], "is cut short inside its header"),
    "pickle": (pickle.dumps({"a": 1}), "is a pickle under the name of a safetensors file; get the safetensors version"),
    "noise": (b"\xff" * 100, "is not a safetensors file"),
    "text": (b"hello\n", "is not a safetensors file"),
    "header": (WHOLE[:8] + b"{" * int.from_bytes(WHOLE[:8], "little") + WHOLE[-412:], "has a damaged header"),
}


def zipped(path):
    torch.save({"a": torch.ones(3)}, path)
    return path.read_bytes()


@pytest.mark.parametrize("name", BAD)
def test_damage_is_named(tmp_path, name):
    content, says = BAD[name]
    file = tmp_path / "adapter.safetensors"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{file} {says}") as caught:
        check_weights(file)
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)


def test_whole_files_pass(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(WHOLE)
    check_weights(tmp_path / "a.safetensors")
    zipped(tmp_path / "a.bin")
    check_weights(tmp_path / "a.bin", plain_pickle=True)
    torch.save({"a": torch.ones(3)}, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    check_weights(tmp_path / "old.bin", plain_pickle=True)


def test_everything_that_reads_weights_says_so(tiny_base, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    places = {
        "unet/diffusion_pytorch_model.safetensors": lambda file: load_base(base, ("unet",)),
        "text_encoder/model.safetensors": lambda file: load_base(base, ("text",)),
        "vae/diffusion_pytorch_model.safetensors": lambda file: fingerprint(BaseConfig(str(base), "")),
        "image_encoder/model.safetensors": lambda file: load_tower(str(base / "image_encoder")),
        "adapter.safetensors": load_adapter,
        "photomaker-v1.bin": load_adapter,
        "probe.safetensors": load_probe,
    }
    for place, load in places.items():
        file = base / place
        whole = file.read_bytes() if file.exists() else b""
        file.write_bytes(POINTER)
        with pytest.raises(CheckpointError, match=f"{file} is a Git LFS pointer"):
            load(file)
        file.write_bytes(whole)


def test_pickles(tmp_path):
    content, file = zipped(tmp_path / "whole.bin"), tmp_path / "a.bin"
    for data, says in (
        (content[:-30], "is cut short"),
        (WHOLE, "is no file of torch; if it is a safetensors"),
        POINTER_CASE,
    ):
        file.write_bytes(data)
        with pytest.raises(CheckpointError, match=says):
            check_weights(file, plain_pickle=True)
    with pytest.raises(CheckpointError, match="does not exist"):
        check_weights(tmp_path / "none.bin", plain_pickle=True)


POINTER_CASE = (POINTER, "is a Git LFS pointer")
