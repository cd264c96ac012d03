"""CLIP: pictures and sentences as unit vectors of one space (Radford et al. 2021)."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from cachetools import LRUCache

from pm.evaluate.metrics.base import Model
from pm.evaluate.models.features import Features, pillow, unit
from pm.evaluate.models.hub import Loaded, load_model

_REMEMBERED = 4096  # sentences


class Sentences:
    """sentences → unit vectors float32 [n, F]; the same prompts come again for every person."""

    def __init__(self, embed: Callable[[list[str]], np.ndarray]):
        self._embed = embed
        self._known: LRUCache[str, np.ndarray] = LRUCache(_REMEMBERED)

    def __call__(self, sentences: Sequence[str]) -> np.ndarray:
        found = {text: self._known[text] for text in sentences if text in self._known}
        new = [text for text in dict.fromkeys(sentences) if text not in found]
        if new:
            found |= dict(zip(new, np.asarray(self._embed(new), np.float32), strict=True))
            self._known.update({text: found[text] for text in new})
        return np.stack([found[text] for text in sentences])


@dataclass(frozen=True)
class Clip:
    """Both towers; dot products are cosines."""

    images: Features
    sentences: Sentences
    model: Model


@functools.lru_cache(maxsize=4)
def load_clip(path: str, device: str) -> Clip:
    """A CLIP by Hub id or folder.

    Raises:
        CheckpointError: it cannot be had.
    """
    loaded = load_model(path, "CLIPModel", device)
    return Clip(Features(_images(loaded)), Sentences(_sentences(loaded)), loaded.model)


def _images(loaded: Loaded) -> Callable[[list[np.ndarray]], np.ndarray]:
    clip, prepare = loaded.module, loaded.processor()

    @torch.no_grad()
    def embed(images: list[np.ndarray]) -> np.ndarray:
        pixels = prepare([pillow(image) for image in images], return_tensors="pt").pixel_values.to(loaded.device)
        return unit(clip.visual_projection(clip.vision_model(pixel_values=pixels).pooler_output).cpu().numpy())

    return embed


def _sentences(loaded: Loaded) -> Callable[[list[str]], np.ndarray]:
    clip, tokenizer = loaded.module, loaded.tokenizer()
    longest = clip.config.text_config.max_position_embeddings

    @torch.no_grad()
    def embed(sentences: list[str]) -> np.ndarray:
        tokens = tokenizer(sentences, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        pooled = clip.text_model(**tokens.to(loaded.device)).pooler_output
        return unit(clip.text_projection(pooled).cpu().numpy())

    return embed
