"""Adapters with random weights that do change the picture."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pm.model.adapter import adapter_state, meta_of
from pm.model.adapter_file import save_adapter
from pm.model.base import load_base
from pm.model.compose.stacked import Stacked
from pm.model.config import AdapterConfig, FaceEmbedding
from pm.model.kinds.fastcomposer import FastComposerChoice
from pm.model.kinds.ip_adapter import IPAdapterChoice
from pm.model.kinds.photomaker_v2 import PhotoMakerV2Choice
from pm.model.photomaker import PhotoMaker

PROBE = FaceEmbedding("probe", "", 34)
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def write_adapter(base: Path, path: Path, *, merge: str = "insert", seed: int = 0, crop_mode: str = "none") -> Path:
    torch.manual_seed(seed)
    model = PhotoMaker(load_base(base), AdapterConfig(Stacked("stacked"), merge, 4, TARGETS, 0, 4, "img", False))
    with torch.no_grad():
        for parameter in model.parameter_groups()["lora"]:
            parameter.copy_(torch.randn_like(parameter) * 0.1)
    save_adapter(path, adapter_state(model), meta_of(model, crop_mode=crop_mode, project_version="0"))
    return path


def write_v2(
    base: Path, path: Path, *, merge: str = "repeat", seed: int = 0, face: FaceEmbedding = PROBE, **extra
) -> Path:
    torch.manual_seed(seed)
    choice = PhotoMakerV2Choice("photomaker_v2", 4, "img", False, merge, 2, 2, 4, TARGETS, 0, face)
    model = choice.build(load_base(base))
    with torch.no_grad():
        for parameter in model.parameter_groups()["lora"]:
            parameter.copy_(torch.randn_like(parameter) * 0.1)
    save_adapter(path, adapter_state(model), meta_of(model, crop_mode="none", project_version="0", **extra))
    return path


def write_ip_adapter(
    base: Path, path: Path, *, projection: str = "linear", tokens: int = 3, seed: int = 0, vision: Path | None = None
) -> Path:
    torch.manual_seed(seed)
    loaded = load_base(base, vision_path=vision and str(vision))
    model = IPAdapterChoice("ip_adapter", 4, "img", False, projection, tokens, 4).build(loaded)
    with torch.no_grad():
        for matrices in model.parameter_groups()["lora"]:
            matrices.copy_(torch.randn_like(matrices) * 0.5)
    save_adapter(path, adapter_state(model), meta_of(model, crop_mode="none", project_version="0"))
    return path


def write_fastcomposer(base: Path, path: Path, *, rank: int | None = None, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    model = FastComposerChoice("fastcomposer", 4, "img", False, rank, TARGETS, 0, 0.0, 1).build(load_base(base))
    with torch.no_grad():
        for parameter in model.parameter_groups()["lora"]:
            parameter.add_(torch.randn_like(parameter) * 0.03)
    save_adapter(path, adapter_state(model), meta_of(model, crop_mode="none", project_version="0"))
    return path


def worst(a: Image.Image, b: Image.Image) -> int:
    """Largest difference of two pictures, of 255."""
    return int(np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max())
