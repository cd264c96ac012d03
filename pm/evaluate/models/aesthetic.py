"""How much people like a picture, on a scale of about 1 to 10: linear layers on CLIP's picture vector (LAION 2022)."""

import functools
import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from pm.errors import CheckpointError
from pm.evaluate.metrics.base import Model
from pm.evaluate.models.features import Features, pillow
from pm.evaluate.models.files import read_weights
from pm.evaluate.models.hub import load_model, model_files

_HEAD = re.compile(r"(predictor|layers\.\d+)\.weight")


@functools.lru_cache(maxsize=2)
def load_aesthetic(path: str, device: str) -> tuple[Features, Model]:
    """Scores [n, 1] of a CLIP vision tower with a head, by Hub id or folder.

    The head is one linear layer (`predictor`), or a chain of linear ones (`layers.0`, `layers.2`, ...).

    Raises:
        CheckpointError: it cannot be had, or has no such head.
    """
    loaded = load_model(path, "CLIPVisionModelWithProjection", device)
    weights: dict[str, Tensor] = {}
    for file in model_files(loaded.folder):
        weights |= read_weights(file)
    head = _head(weights, f"path={path}").to(device)
    tower, prepare = loaded.module, loaded.processor()

    @torch.no_grad()
    def embed(images: list[np.ndarray]) -> np.ndarray:
        pixels = prepare([pillow(image) for image in images], return_tensors="pt").pixel_values.to(device)
        return head(nn.functional.normalize(tower(pixel_values=pixels).image_embeds, dim=-1)).cpu().numpy()

    return Features(embed), loaded.model


def _head(weights: Mapping[str, Tensor], what: str) -> nn.Module:
    names = [found[1] for name in weights if (found := _HEAD.fullmatch(name))]
    names.sort(key=lambda name: int(name.partition(".")[2] or 0))
    chain = []
    for name in names:
        matrix = weights[f"{name}.weight"]
        layer = nn.Linear(matrix.shape[1], matrix.shape[0])
        layer.load_state_dict({"weight": matrix, "bias": weights[f"{name}.bias"]})
        chain.append(layer)
    if not chain or chain[-1].out_features != 1:
        raise CheckpointError(
            f"{what} has no head that gives one score (predictor.weight, or layers.0.weight and so on); give an "
            "aesthetic predictor such as shunk031/aesthetics-predictor-v1-vit-large-patch14"
        )
    return nn.Sequential(*chain).float().eval().requires_grad_(False)
