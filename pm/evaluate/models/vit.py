"""Self-supervised vision transformers such as DINO (Caron et al. 2021): the class token of the last layer."""

import functools

import numpy as np
import torch

from pm.evaluate.metrics.base import Model
from pm.evaluate.models.features import Features, pillow, unit
from pm.evaluate.models.hub import load_model


@functools.lru_cache(maxsize=4)
def load_vit(path: str, device: str) -> tuple[Features, Model]:
    """Unit vectors of a ViT by Hub id or folder.

    Raises:
        CheckpointError: it cannot be had.
    """
    loaded = load_model(path, "ViTModel", device, add_pooling_layer=False)
    vit, prepare = loaded.module, loaded.processor()

    @torch.no_grad()
    def embed(images: list[np.ndarray]) -> np.ndarray:
        pixels = prepare([pillow(image) for image in images], return_tensors="pt").pixel_values.to(device)
        return unit(vit(pixel_values=pixels).last_hidden_state[:, 0].cpu().numpy())

    return Features(embed), loaded.model
