"""From a batch to a loss: one nn.Module, so that one engine wraps everything that computes gradients."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pm.model.kinds.base import Penalised
from pm.train.diffusion import NoiseSchedule, add_noise, draw, sample_latents, target
from pm.train.losses.choice import LossWeights
from pm.train.losses.masked import masked_mse
from pm.train.terms.base import Seen, Term


@dataclass(frozen=True)
class Precision:
    """Dtype of the frozen weights and of the computation; trained weights are float32 in every case."""

    dtype: torch.dtype

    @property
    def autocast(self) -> bool:
        return self.dtype is not torch.float32


def choose_precision(name: Literal["auto", "fp32", "tf32", "bf16"], device: torch.device) -> Precision:
    """`auto` is bf16 on a GPU that computes in it, else fp32 (bf16 is slower than fp32 on most CPUs)."""
    if name == "auto":
        name = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return Precision(torch.bfloat16 if name == "bf16" else torch.float32)


def train_in_float32(module: nn.Module) -> None:
    """Cast the trainable parameters to float32 in place; frozen ones keep the base's dtype."""
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


class TrainStep(nn.Module):
    """Noise a batch, predict, compare.

    Args:
        photomaker: a `TrainedAdapter`, or any module called as (noisy, timesteps, batch) -> prediction or `Penalised`.
        schedule: the base's noise levels.
        scaling_factor: of the VAE's latents.
        precision: dtype of the computation; the loss is float32.
        loss_weights: how much the loss counts at each noise level.
        terms: beside it, with their weights; they hold no trained weights of their own.
    """

    def __init__(
        self,
        photomaker: nn.Module,
        schedule: NoiseSchedule,
        scaling_factor: float,
        precision: Precision,
        loss_weights: LossWeights,
        terms: Sequence[tuple[float, Term]] = (),
    ):
        super().__init__()
        self.photomaker = photomaker
        self.schedule, self.scaling_factor = schedule, scaling_factor
        self.precision, self._loss_weight = precision, loss_weights.build(schedule)
        self._terms = tuple(terms)

    def forward(self, batch: Any) -> Tensor:
        """Loss of each sample of a `Batch`, [B] float32; the mean over samples is what is minimised."""
        device = batch.mean.device
        draws = getattr(batch, "draws", None) or draw(batch.seeds, tuple(batch.mean.shape[1:]), len(self.schedule))
        timesteps = draws.timesteps.to(device)
        noise = draws.noise.to(device)
        latents = sample_latents(batch.mean, batch.logvar, draws.posterior.to(device), self.scaling_factor)
        noisy = add_noise(self.schedule, latents, noise, timesteps)
        # Weights that ZeRO-3 gathers are not in this format, so the input decides for all convolutions of the U-Net.
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        noisy = noisy.to(self.precision.dtype)
        with ExitStack() as watching, self._autocast(device):
            for _, term in self._terms:
                watching.enter_context(term.watching(batch))
            output = self.photomaker(noisy, timesteps, batch)
        prediction, penalty = output if isinstance(output, Penalised) else (output, 0.0)
        wanted = target(self.schedule, latents, noise, timesteps)
        loss = masked_mse(prediction, wanted, batch.mask, batch.use_mask)
        loss = loss * self._loss_weight(timesteps) + penalty
        seen = Seen(batch, latents, noisy, timesteps, prediction)
        for weight, term in self._terms:
            with self._autocast(device):
                loss = loss + weight * term(seen).float()
        return loss

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision.autocast)
