"""What training reads: samples and their batches."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pm.model.conditioning import TextFeatures
from pm.model.images import to_clip


@dataclass(frozen=True)
class Sample:
    """One target photo with references of the same person; shapes as in `Batch`, without the leading B."""

    mean: Tensor
    logvar: Tensor
    mask: Tensor
    embeds: Tensor
    pooled: Tensor
    time_ids: Tensor
    class_index: int
    caption: str
    class_word: str
    id_pixels: Tensor  # uint8 [N, 3, S, S], noise outside the person; or float [N, T, H], see `Batch`
    drop_text: bool
    use_mask: bool
    seed: int
    repeated: bool = False
    face_embeds: Tensor | None = None  # [N, E]


@dataclass(frozen=True)
class Batch:
    """B samples with M reference photos in all: the first `id_counts[0]` belong to row 0, and so on.

    Latents are raw VAE moments, not scaled. `id_pixels` are CLIP-normalised, with noise outside the person's mask; or
    what the vision tower's frozen lower layers made of them, [M, T, H], where the dataset has that.
    """

    mean: Tensor  # [B, C, h, w] float
    logvar: Tensor  # [B, C, h, w] float
    mask: Tensor  # [B, 1, h, w] float 0..1, how much of a latent pixel the person covers
    embeds: Tensor  # [B, L, D] float
    pooled: Tensor  # [B, P] float; P and Q are 0 for bases without
    time_ids: Tensor  # [B, Q] float32; SDXL: original h, w, crop top, left, target h, w
    class_index: Tensor  # [B] int64, token index of the class word
    captions: list[str]
    class_words: list[str]
    id_pixels: Tensor  # [M, 3, S, S] float
    id_counts: Tensor  # [B] int64
    drop_text: Tensor  # [B] bool, train this row without text and identity
    use_mask: Tensor  # [B] bool, take this row's loss inside the mask
    seeds: Tensor  # [B] int64, for the latents' sample, the noise and the timestep
    repeated: bool = False  # the text features are those of the class word repeated for each identity token
    face_embeds: Tensor | None = None  # [M, E] float, of the references' faces, for kinds that take them
    # What the host knows of tensors that are on a device by then: reading it there would wait for all that is queued.
    photos: tuple[int, ...] = ()  # `id_counts`
    words: tuple[int, ...] = ()  # `class_index`
    draws: Any = None  # what the objective drew from the seeds, a dataclass of tensors; None: it draws them itself

    @property
    def most_photos(self) -> int | None:
        """References of the row that has most; None: not known without looking."""
        return max(self.photos, default=None)

    def __len__(self) -> int:
        return self.mean.shape[0]

    @property
    def text(self) -> TextFeatures:
        """The captions' features, as the text encoders gave them."""
        return TextFeatures(self.embeds, self.pooled)

    def pin_memory(self) -> "Batch":
        """A copy in page-locked memory; torch's `DataLoader` asks for it."""
        return _changed(self, lambda name, value: value.pin_memory())

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Batch":
        """Move all tensors; cast the floating ones. Time ids stay float32: bfloat16 cannot hold 1025."""

        def move(name: str, value: Tensor) -> Tensor:
            cast = dtype if value.is_floating_point() and name != "time_ids" else None
            return value.to(device, cast, non_blocking=True)

        return _changed(self, move)


def _changed(values: Any, change: Callable[[str, Tensor], Tensor]) -> Any:
    """A dataclass whose tensors, also those of dataclasses in it, are `change(name, tensor)`."""
    found = {}
    for field in dataclasses.fields(values):
        value = getattr(values, field.name)
        if isinstance(value, Tensor):
            found[field.name] = change(field.name, value)
        elif dataclasses.is_dataclass(value):
            found[field.name] = _changed(value, change)
    return dataclasses.replace(values, **found)


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples; a batch of n holds what n batches of one hold."""
    id_pixels = torch.cat([s.id_pixels for s in samples])
    faces = [s.face_embeds for s in samples if s.face_embeds is not None]
    return Batch(
        **{
            name: torch.stack([getattr(s, name) for s in samples]).float()
            for name in ("mean", "logvar", "mask", "embeds", "pooled", "time_ids")
        },
        class_index=torch.tensor([s.class_index for s in samples]),
        captions=[s.caption for s in samples],
        class_words=[s.class_word for s in samples],
        id_pixels=to_clip(id_pixels, id_pixels.shape[-1]) if id_pixels.ndim == 4 else id_pixels,
        id_counts=torch.tensor([len(s.id_pixels) for s in samples]),
        drop_text=torch.tensor([s.drop_text for s in samples]),
        use_mask=torch.tensor([s.use_mask for s in samples]),
        seeds=torch.tensor([s.seed for s in samples]),
        repeated=samples[0].repeated,
        face_embeds=torch.cat(faces) if faces else None,
        photos=tuple(len(s.id_pixels) for s in samples),
        words=tuple(s.class_index for s in samples),
    )
