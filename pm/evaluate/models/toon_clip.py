"""The toon world's own CLIP: vision tower and first text encoder of its base, and what maps text to pictures."""

import functools
from pathlib import Path

import numpy as np
import torch

from pm.errors import CheckpointError
from pm.evaluate.models.clip import Clip, Sentences
from pm.evaluate.models.features import Features, pillow, unit
from pm.evaluate.models.files import model_of, read_weights
from pm.evaluate.models.hub import load_model
from pm.model.images import to_clip
from pm.toon.base import TEXT_PROJECTION


@functools.lru_cache(maxsize=2)
def load_toon_clip(path: str, device: str) -> Clip:
    """The CLIP of a toon base's folder.

    Raises:
        CheckpointError: the folder is no toon base, or lacks the projection.
    """
    folder = Path(path).expanduser()
    file = folder / TEXT_PROJECTION
    if not file.is_file():
        raise CheckpointError(f"path={path} has no {TEXT_PROJECTION}; python -m pm.toon.pretrain.projection makes it")
    vision = load_model(str(folder / "image_encoder"), "CLIPVisionModelWithProjection", device)
    text = load_model(str(folder / "text_encoder"), "CLIPTextModel", device)
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    matrix = read_weights(file)["text_projection.weight"].float().to(device)
    side = vision.module.config.image_size

    @torch.no_grad()
    def images(batch: list[np.ndarray]) -> np.ndarray:
        pixels = to_clip([pillow(image) for image in batch], side).to(device)
        return unit(vision.module(pixel_values=pixels).image_embeds.cpu().numpy())

    @torch.no_grad()
    def sentences(batch: list[str]) -> np.ndarray:
        tokens = tokenizer(batch, padding=True, truncation=True, return_tensors="pt").to(device)
        pooled = text.module(input_ids=tokens.input_ids).pooler_output
        return unit((pooled @ matrix.T).cpu().numpy())

    files = [*sorted((folder / "image_encoder").glob("*.safetensors"))]
    files += [*sorted((folder / "text_encoder").glob("*.safetensors")), file]
    return Clip(Features(images), Sentences(sentences), model_of("toon CLIP", *files))
