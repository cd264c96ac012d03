"""What the frozen parts of the base say about a photo: the work of the stage `precompute`, with torch."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pm.data.config import FeaturesConfig
from pm.data.dataset.features import to_bytes
from pm.data.records import Photo
from pm.errors import RequestError
from pm.model.base import BaseModel, TextFeatures, encode_images, encode_text, load_base
from pm.model.base_sizes import BaseSizes
from pm.model.batching import Batcher
from pm.model.config import BaseConfig
from pm.model.families.base import Family
from pm.model.files import quiet_loading
from pm.model.id_encoder import frozen_layers, load_tower, lower_tower
from pm.model.images import noise_fill, to_clip
from pm.model.merge import repeat_class_tokens
from pm.model.prompt import class_token_index, mark, tokenize
from pm.photo.pixels import decode_png, encode_png, resize, resize_mask

_STAGE = "precompute"  # that this is the work of


def time_ids(photo: Photo, resolution: int, family: Family) -> tuple[float, ...]:
    """What the base's family tells the U-Net of the photo's size and crop.

    The crop's corner is in pixels after resizing: the photo, resized by resolution / crop side, then cropped.
    """
    left, top, right, _ = photo.crop_box
    scale = resolution / (right - left)
    corner = (float(round(top * scale)), float(round(left * scale)))
    return family.time_ids((photo.height, photo.width), corner, (resolution, resolution))


class Encoder:
    """Holds the text encoders, the VAE and, if asked for, the vision tower; takes whole identities, works in batches.

    Args:
        config: the base.
        sizes: what `base_sizes` says about it.
        features: what to compute, and how to store it.
        device: where the parts run.
        dtype: of their weights and computation.
        batch_size: photos in one call of a part; None: as many as the GPU has memory for.
    """

    def __init__(
        self,
        config: BaseConfig,
        sizes: BaseSizes,
        features: FeaturesConfig,
        *,
        device: str,
        dtype: str,
        batch_size: int | None,
    ):
        quiet_loading()
        self.sizes, self.features = sizes, features
        self.base: BaseModel = load_base(
            config.path,
            parts=("text", "vae"),
            vision_path=config.vision_path,
            family=config.family,
            device=device,
            dtype=getattr(torch, dtype),
        )
        self.tower: Any = None
        if features.noise_fills:
            self.tower = load_tower(config.vision_path).to(device, getattr(torch, dtype))
        # Each part has its own batch: the VAE takes many times the memory of the text encoders.
        self._vae, self._texts, self._towers = (Batcher(batch_size, device) for _ in range(3))

    def __call__(self, photos: Sequence[Photo]) -> list[Photo]:
        """Fill the class word's token index, the ID crop, the features and the time ids.

        Rejects captions whose class word lies behind the last token the text encoders see (with `features.repeat`:
        when it is repeated as often as that).
        """
        located = [photo if photo.reject else self._locate(photo) for photo in photos]
        kept = [photo for photo in located if not photo.reject]
        parts = [self._vae(self._moments, kept), self._text(kept), self._towers(self._lower, kept)]
        crops = (decode_png(photo.crop, "RGB") for photo in kept)
        done = {
            photo.photo: replace(
                photo,
                crop=b"",
                id_crop=encode_png(np.asarray(resize(crop, self.sizes.vision_size))),
                time_ids=time_ids(photo, self.sizes.resolution, self.base.family),
                face_embedding=photo.face.embedding if self.features.face_embeddings else (),
                **{name: data for part in found for name, data in part.items()},
            )
            for photo, crop, *found in zip(kept, crops, *parts, strict=True)
        }
        return [done.get(photo.photo, photo) for photo in located]

    def _locate(self, photo: Photo) -> Photo:
        room = self.base.max_tokens - 1 - max(1, self.features.repeat)
        try:
            index = class_token_index(self.base.tokenizers[0], mark(photo.caption, photo.class_word))
        except RequestError:
            return photo.rejected(_STAGE, "class_word_beyond_tokens", None, room)
        if index > room:
            return photo.rejected(_STAGE, "class_word_beyond_tokens", index, room)
        return replace(photo, class_index=index)

    def _moments(self, photos: Sequence[Photo]) -> list[dict[str, bytes]]:
        targets = [np.asarray(resize(decode_png(photo.crop, "RGB"), self.sizes.resolution)) for photo in photos]
        images = torch.from_numpy(np.stack(targets)).permute(0, 3, 1, 2).float() / 127.5 - 1
        moments = zip(*encode_images(self.base, images), strict=True)
        return [{"vae_mean": self._bytes(mean), "vae_logvar": self._bytes(logvar)} for mean, logvar in moments]

    def _text(self, photos: Sequence[Photo]) -> list[dict[str, bytes]]:
        """Text features of each photo; equal captions are encoded once."""
        keys = [(photo.caption, photo.class_index) for photo in photos]
        unique = list(dict.fromkeys(keys))
        found = dict(zip(unique, self._texts(self._encode_texts, unique), strict=True))
        return [found[key] for key in keys]

    def _encode_texts(self, texts: Sequence[tuple[str, int]]) -> list[dict[str, bytes]]:
        ids = tokenize(self.base.tokenizers, [caption for caption, _ in texts])
        plain = encode_text(self.base, ids)
        rows = [
            {"text_embeds": self._bytes(embeds), "pooled": self._bytes(pooled)}
            for embeds, pooled in zip(plain.embeds, plain.pooled, strict=True)
        ]
        if self.features.repeat:
            index = torch.tensor([index for _, index in texts])
            repeated = [self._repeated(ids, index, count) for count in range(1, self.features.repeat + 1)]
            for i, row in enumerate(rows):
                row["repeat_embeds"] = b"".join(self._bytes(text.embeds[i]) for text in repeated)
                row["repeat_pooled"] = b"".join(self._bytes(text.pooled[i]) for text in repeated)
        return rows

    def _repeated(self, ids: tuple[Tensor, ...], index: Tensor, count: int) -> TextFeatures:
        counts = torch.full_like(index, count)
        ends = [tokenizer.eos_token_id for tokenizer in self.base.tokenizers]
        longer = (repeat_class_tokens(i, index, counts, end, truncate=True) for i, end in zip(ids, ends, strict=True))
        return encode_text(self.base, tuple(longer))

    @torch.no_grad()
    def _lower(self, photos: Sequence[Photo]) -> list[dict[str, bytes]]:
        if self.tower is None:
            return [{} for _ in photos]
        filled = torch.cat([self._filled(photo) for photo in photos])
        layers = frozen_layers(self.tower, self.features.train_layers)
        pixels = to_clip(filled, self.sizes.vision_size).to(self.tower.device, self.tower.dtype)
        hidden = lower_tower(self.tower, pixels, layers).unflatten(0, (len(photos), -1))
        return [{"tower": self._bytes(each)} for each in hidden]

    def _filled(self, photo: Photo) -> Tensor:
        """K noise fills around the person, uint8 [K, 3, S, S]; the noise depends on the photo only."""
        side = self.sizes.vision_size
        crop = np.array(resize(decode_png(photo.crop, "RGB"), side)).transpose(2, 0, 1)
        mask = np.array(resize_mask(decode_png(photo.mask, "L"), side))[None] >= 128
        count = self.features.noise_fills
        pixels, person = (torch.from_numpy(v).expand(count, *v.shape) for v in (crop, mask))
        seed = int(hashlib.sha256(photo.photo.encode()).hexdigest()[:15], 16)
        return noise_fill(pixels, person, torch.Generator().manual_seed(seed))

    def _bytes(self, values: Tensor) -> bytes:
        return to_bytes(values, self.features.storage)
