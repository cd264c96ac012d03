"""Fine-tuning for one person: a few photos, the project's own training step, seconds on a small base.

Shapes: n photos, B samples of an update, C x h x w latents, R pixels of the base's side.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from pm.errors import ConfigError
from pm.methods.photos import check_photos
from pm.methods.trial import Photo
from pm.methods.tuning import Tuning
from pm.model.base import BaseModel, encode_images
from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.images import masks_to_bool, to_uint8
from pm.model.words import with_learned
from pm.train.diffusion import noise_schedule
from pm.train.step import Precision, TrainStep

_NO_VARIANCE = -30.0  # log-variance: the least that the autoencoder knows


@dataclass(frozen=True)
class Examples:
    """Pictures as the U-Net learns from them, and a batch of them as `TrainStep` reads it."""

    mean: Tensor  # [n, C, h, w] VAE moments, not scaled
    logvar: Tensor  # [n, C, h, w]
    mask: Tensor  # [n, 1, h, w] 0..1, how much of a latent pixel the person covers; 0: unknown
    time_ids: Tensor  # [n, Q]
    prompt: Tensor  # [n] int64, which of the prompts says what it shows
    use_mask: Tensor  # [n] bool
    seeds: Tensor  # [n] int64, of timestep, VAE sample and noise

    def __len__(self) -> int:
        return self.mean.shape[0]

    def rows(self, index: Tensor) -> "Examples":
        """Select rows."""
        return Examples(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def drawn(self, count: int, masked: float, generator: torch.Generator) -> "Examples":
        """`count` of them at random, with fresh seeds; each with a masked loss by the probability `masked`."""
        picked = self.rows(torch.randint(len(self), (count,), generator=generator).to(self.mean.device))
        use = torch.rand(count, generator=generator) < masked
        seeds = torch.randint(2**62, (count,), generator=generator)
        return replace(picked, use_mask=use.to(picked.mean.device), seeds=seeds)

    @staticmethod
    def concat(parts: "Sequence[Examples]") -> "Examples":
        """Stack."""
        names = Examples.__dataclass_fields__
        return Examples(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def examples_of(base: BaseModel, photos: Sequence[Photo], prompt: int = 0) -> Examples:
    """Photos, the centre of each at the base's resolution, through the VAE.

    Raises:
        RequestError: no photo, or one that is no picture.
    """
    check_photos(photos)
    side, factor = base.resolution, base.vae_scale_factor
    images = [Image.fromarray(photo.image) for photo in photos]
    moments = [encode_images(base, to_uint8([image], side).float() / 127.5 - 1) for image in images]
    masks, time_ids = [], []
    for image, photo in zip(images, photos, strict=True):
        mask = torch.zeros(1, 1, side, side)
        if photo.mask is not None:
            mask = masks_to_bool([Image.fromarray(photo.mask.astype("uint8") * 255)], side).float()
        masks.append(F.avg_pool2d(mask, factor))
        short, (width, height) = min(image.size), image.size
        corner = tuple((int(side * length / short) - side) // 2 for length in (height, width))
        time_ids.append(base.family.time_ids((height, width), (corner[0], corner[1]), (side, side)))
    mean, logvar = (torch.cat(part) for part in zip(*moments, strict=True))
    return _examples(mean, logvar, torch.cat(masks), torch.tensor(time_ids), prompt)


def examples_from_latents(base: BaseModel, latents: Tensor, prompt: int) -> Examples:
    """Pictures that the base drew, from their latents in the diffusion space [n, C, h, w]."""
    n, _, height, width = latents.shape
    size = (height * base.vae_scale_factor, width * base.vae_scale_factor)
    time_ids = torch.tensor([base.family.time_ids(size, (0, 0), size)] * n)
    logvar = torch.full_like(latents, _NO_VARIANCE)
    mask = torch.zeros(n, 1, height, width)
    return _examples(latents / base.scaling_factor, logvar, mask, time_ids, prompt)


def _examples(mean: Tensor, logvar: Tensor, mask: Tensor, time_ids: Tensor, prompt: int) -> Examples:
    n, where = mean.shape[0], mean.device
    which = torch.full((n,), prompt, device=where)
    unset = torch.zeros(n, dtype=torch.bool, device=where), torch.zeros(n, dtype=torch.int64)
    return Examples(mean, logvar, mask.to(where), time_ids.to(where), which, *unset)


class Denoiser(nn.Module):
    """A U-Net that is told one of some prompts: (noisy, timesteps, examples) -> prediction."""

    def __init__(self, base: BaseModel, unet: Any, text: TextFeatures):
        """`text`: of the prompts, which `Examples.prompt` counts."""
        super().__init__()
        self.unet, self._base, self._text = unet, base, text

    def forward(self, noisy: Tensor, timesteps: Tensor, examples: Examples) -> Tensor:
        conditioning = Conditioning.from_text(self._text.rows(examples.prompt), examples.time_ids)
        base = self._base
        return base.family.predict(self.unet, noisy, timesteps, conditioning, max_tokens=base.max_tokens)


class ReadDenoiser(nn.Module):
    """The same, with prompts that have learned tokens: (noisy, timesteps, examples) -> prediction.

    `tables`: the learned embeddings, [J, W_i] for each text encoder.
    """

    def __init__(self, base: BaseModel, unet: Any, ids: Sequence[Tensor], tables: Sequence[Tensor]):
        """`ids`, `tables`: of the prompts, which `Examples.prompt` counts; see `pm.model.words.tokenize_words`."""
        super().__init__()
        device, encoders = base.unet.device, base.text_encoders or ()
        self.unet, self._base = unet, base
        self.tables = nn.ParameterList(nn.Parameter(table.detach().clone().to(device)) for table in tables)
        self.encoders = nn.ModuleList(map(with_learned, encoders, self.tables))
        self._ids = [i.to(device) for i in ids]

    def forward(self, noisy: Tensor, timesteps: Tensor, examples: Examples) -> Tensor:
        base = self._base
        text = base.family.encode(list(self.encoders), [ids[examples.prompt] for ids in self._ids])
        conditioning = Conditioning.from_text(text, examples.time_ids)
        return base.family.predict(self.unet, noisy, timesteps, conditioning, max_tokens=base.max_tokens)


def train_step(base: BaseModel, denoiser: nn.Module, settings: Tuning) -> TrainStep:
    """The step of training around a module that is called as (noisy, timesteps, examples) -> prediction."""
    schedule, precision = noise_schedule(base.scheduler_config), Precision(base.unet.dtype)
    return TrainStep(denoiser, schedule, base.scaling_factor, precision, settings.loss_weights)


def fit(
    step: TrainStep,
    parameters: Sequence[nn.Parameter],
    batches: Iterator[Examples],
    settings: Tuning,
    combine: Callable[[Tensor], Tensor] = torch.mean,
) -> list[float]:
    """Adam on `parameters`, in place; returns the loss of every update.

    Args:
        step: gives the loss of each sample.
        parameters: float32, with gradients.
        batches: endless.
        settings: steps, rate, weight decay.
        combine: from the samples' losses [B] to what is minimised.

    Raises:
        ConfigError: the loss is NaN or infinite.
    """
    if settings.steps == 0:
        return []
    optimizer = torch.optim.AdamW(list(parameters), lr=settings.lr, weight_decay=settings.weight_decay)
    losses: list[Tensor] = []
    for _ in range(settings.steps):
        loss = combine(step(next(batches)))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    found: list[float] = torch.stack(losses).tolist()
    broken = next((i for i, value in enumerate(found) if not math.isfinite(value)), None)
    if broken is not None:
        raise ConfigError(f"loss is {found[broken]} at step {broken + 1} of {len(found)}; lower lr={settings.lr:g}")
    return found


def tail(losses: Sequence[float]) -> float:
    """Mean over the last tenth; NaN without any."""
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last) if last else math.nan


def frugal(unet: Any, settings: Tuning) -> Any:
    """Recompute activations in the backward pass if the settings say so."""
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return unet
