"""Stage 7: everything the frozen parts of the base say about a photo, computed once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pm.data.pixels import decode_png, encode_png, resize
from pm.data.records import Photo
from pm.errors import RequestError
from pm.model.base import BaseModel, TextFeatures, encode_images, encode_text, load_base
from pm.model.config import BaseConfig
from pm.model.files import fingerprint, quiet_loading, read_json, resolve_folder
from pm.model.prompt import class_token_index, mark, tokenize

STAGE = "precompute"


@dataclass(frozen=True)
class BaseSizes:
    """What the data must know about the base, read from its configs without loading weights."""

    fingerprint: str
    resolution: int  # px
    latent_shape: tuple[int, int, int]  # C, h, w
    text_shape: tuple[int, int]  # L, D
    vision_size: int  # px, side of the vision tower's input

    @property
    def least_side(self) -> int:
        """Pixels a crop needs so that nothing is enlarged twice."""
        return max(self.resolution, self.vision_size)


def base_sizes(config: BaseConfig) -> BaseSizes:
    """Look a base up.

    Raises:
        CheckpointError: the base or the vision tower is missing or incomplete.
    """
    base = load_base(config.path, parts=(), vision_path=config.vision_path)
    vision = read_json(resolve_folder(base.vision_path) / "config.json")
    vision = vision.get("vision_config", vision)  # a whole CLIP model keeps the tower's settings inside
    return BaseSizes(
        fingerprint=fingerprint(config.path),
        resolution=base.resolution,
        latent_shape=(base.latent_channels, base.latent_size, base.latent_size),
        text_shape=(base.max_tokens, base.text_width),
        vision_size=int(vision.get("image_size", 224)),
    )


def time_ids(photo: Photo, resolution: int) -> tuple[float, ...]:
    """SDXL's micro-conditioning (Podell et al. 2023, section 2.2): original height and width, crop top and left, target
    height and width.

    As there, the crop's corner is in pixels after resizing: the photo, resized by resolution / crop side, then cropped.
    """
    left, top, right, _ = photo.crop_box
    scale = resolution / (right - left)
    corner = (float(round(top * scale)), float(round(left * scale)))
    return (float(photo.height), float(photo.width), *corner, float(resolution), float(resolution))


class Precompute:
    """Holds the text encoders and the VAE; called with whole identities, works in batches."""

    def __init__(self, config: BaseConfig, sizes: BaseSizes, *, device: str, dtype: str, batch_size: int):
        quiet_loading()
        self.sizes, self.batch_size = sizes, batch_size
        self.base: BaseModel = load_base(
            config.path,
            parts=("text", "vae"),
            vision_path=config.vision_path,
            device=device,
            dtype=getattr(torch, dtype),
        )

    def __call__(self, photos: Sequence[Photo]) -> list[Photo]:
        """Fill the class word's token index, the ID crop, VAE moments, text features and time ids.

        Rejects captions whose class word lies behind the last token the text encoders see.
        """
        located = [photo if photo.reject else self._locate(photo) for photo in photos]
        kept = [photo for photo in located if not photo.reject]
        done: dict[str, Photo] = {}
        for start in range(0, len(kept), self.batch_size):
            chunk = kept[start : start + self.batch_size]
            done.update((photo.photo, photo) for photo in self._encode(chunk))
        return [done.get(photo.photo, photo) for photo in located]

    def _locate(self, photo: Photo) -> Photo:
        try:
            index = class_token_index(self.base.tokenizers[0], mark(photo.caption, photo.class_word))
        except RequestError:
            return photo.rejected(STAGE, "class_word_beyond_tokens", None, self.base.max_tokens)
        return replace(photo, class_index=index)

    def _encode(self, photos: Sequence[Photo]) -> list[Photo]:
        crops = [decode_png(photo.crop, "RGB") for photo in photos]
        targets = np.stack([np.asarray(resize(crop, self.sizes.resolution)) for crop in crops])
        images = torch.from_numpy(targets).permute(0, 3, 1, 2).float() / 127.5 - 1
        mean, logvar = encode_images(self.base, images)
        text = self._text([photo.caption for photo in photos])
        return [
            replace(
                photo,
                crop=b"",
                id_crop=encode_png(np.asarray(resize(crop, self.sizes.vision_size))),
                vae_mean=_half(mean[i]),
                vae_logvar=_half(logvar[i]),
                text_embeds=_half(text.embeds[i]),
                pooled=_half(text.pooled[i]),
                time_ids=time_ids(photo, self.sizes.resolution),
            )
            for i, (photo, crop) in enumerate(zip(photos, crops, strict=True))
        ]

    def _text(self, captions: Sequence[str]) -> TextFeatures:
        """Features of each caption; equal captions are encoded once."""
        unique = list(dict.fromkeys(captions))
        place = {caption: i for i, caption in enumerate(unique)}
        return encode_text(self.base, tokenize(self.base.tokenizers, unique)).rows([place[c] for c in captions])


def _half(values: Tensor) -> bytes:
    """float16 bytes; beyond its range the largest number it has, not infinity."""
    limit = torch.finfo(torch.float16).max
    return values.float().clamp(-limit, limit).half().cpu().numpy().tobytes()
