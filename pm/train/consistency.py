"""The step of latent consistency distillation (`pm.train.objectives.lcm`), and its maths as pure functions.

Shapes: B samples, C latent channels, h x w latent pixels, K timesteps of the teacher's DDIM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pm.model.conditioning import Conditioning
from pm.model.lora import lora_off
from pm.sample.schedules.lcm import boundary
from pm.train.diffusion import NoiseSchedule, add_noise, clean_and_noise, sample_latents

if TYPE_CHECKING:
    from pm.train.objectives.lcm import Lcm
    from pm.train.step import Precision


def solver_timesteps(schedule: NoiseSchedule, count: int) -> Tensor:
    """The teacher's timesteps, [K] int64 ascending: those that LCMScheduler picks its own from."""
    return torch.arange(1, count + 1) * (len(schedule) // count) - 1


def consistency(noisy: Tensor, clean: Tensor, timesteps: Tensor, scaling: float) -> Tensor:
    """f(z_t, t) = c_skip z_t + c_out z_0 (eq. 9): the estimate [B, C, h, w] of z_0, and z_t itself at t = 0."""
    skip, out = boundary(timesteps.view(-1, 1, 1, 1).float(), scaling)
    return skip * noisy + out * clean


def ddim_step(schedule: NoiseSchedule, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """z at `timesteps` [B] from z_0 and noise [B, C, h, w] (Song et al. 2021, eq. 12 without added noise)."""
    signal, level = schedule.at(timesteps)
    return signal * clean + level * noise


class ConsistencyStep(nn.Module):
    """Noise a batch, let the teacher take one step, and have the student say the same at both ends of it.

    Args:
        photomaker: a `TrainedAdapter` whose trained weights are LoRA matrices of its U-Net.
        schedule: the base's noise levels.
        scaling_factor: of the VAE's latents.
        precision: dtype of the computation; the loss is float32.
        settings: of the objective.
    """

    def __init__(
        self, photomaker: nn.Module, schedule: NoiseSchedule, scaling_factor: float, precision: Precision, settings: Lcm
    ) -> None:
        super().__init__()
        self.photomaker: Any = photomaker
        self.schedule, self.scaling_factor = schedule, scaling_factor
        self.precision, self.settings = precision, settings
        self._timesteps: Tensor
        self.register_buffer("_timesteps", solver_timesteps(schedule, settings.timesteps), persistent=False)

    def forward(self, batch: Any) -> Tensor:
        """Loss of each sample of a `Batch`, [B] float32."""
        device, scaling = batch.mean.device, self.settings.timestep_scaling
        draws = batch.draws or draw(batch.seeds, tuple(batch.mean.shape[1:]), self.settings)
        start = self._timesteps[draws.index.to(self._timesteps.device)].to(device)
        # One step of the solver back; from its first timestep to the noise level of t = 0.
        end = (start - len(self.schedule) // self.settings.timesteps).clamp_min(0)
        latents = sample_latents(batch.mean, batch.logvar, draws.posterior.to(device), self.scaling_factor)
        noisy = add_noise(self.schedule, latents, draws.noise.to(device), start)
        conditioning = Conditioning.from_text(batch.text, batch.time_ids)
        with torch.no_grad():
            before = self._teacher(noisy, start, end, conditioning, draws.guidance.to(device).view(-1, 1, 1, 1))
            wanted = self._student(before, end, conditioning)
            wanted = consistency(before, wanted, end, scaling)
        found = consistency(noisy, self._student(noisy, start, conditioning), start, scaling)
        c = self.settings.huber
        return (((found - wanted).square() + c**2).sqrt() - c).mean(dim=(1, 2, 3))

    def _student(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Its z_0."""
        return clean_and_noise(self.schedule, noisy, self._predict(noisy, timesteps, conditioning), timesteps)[0]

    def _teacher(
        self, noisy: Tensor, start: Tensor, end: Tensor, conditioning: Conditioning, guidance: Tensor
    ) -> Tensor:
        """z at `end`: one guided step of DDIM with the frozen base."""
        nothing = self.photomaker.drop_rows(conditioning, torch.ones_like(start, dtype=torch.bool))
        both = Conditioning.concat([conditioning, nothing])
        with lora_off(self.photomaker.unet):
            output = self._predict(noisy.repeat(2, 1, 1, 1), start.repeat(2), both)
        given, free = output.chunk(2)
        clean, noise = clean_and_noise(self.schedule, noisy, free + guidance * (given - free), start)
        return ddim_step(self.schedule, clean, noise, end)

    def _predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        dtype = self.precision.dtype
        with torch.autocast(noisy.device.type, dtype=torch.bfloat16, enabled=self.precision.autocast):
            output: Tensor = self.photomaker.predict(noisy.to(dtype), timesteps, conditioning.to(noisy.device, dtype))
        return output.float()


@dataclass(frozen=True)
class Draws:
    """The random numbers of a batch, each row from its own seed."""

    index: Tensor  # [B] int64 in 0..K-1, which of the teacher's timesteps
    guidance: Tensor  # [B] float32, the teacher's
    posterior: Tensor  # [B, C, h, w] standard normal, picks the VAE's sample
    noise: Tensor  # [B, C, h, w] standard normal


def draw(seeds: Tensor, shape: tuple[int, int, int], settings: Lcm) -> Draws:
    """Draw from seeds [B] int64, on the CPU: a sample's loss depends neither on the others nor on the workers."""
    index = torch.empty(len(seeds), dtype=torch.int64)
    share, normals = torch.empty(len(seeds)), torch.empty(2, len(seeds), *shape)
    generator = torch.Generator()
    for row, seed in enumerate(seeds.tolist()):
        generator.manual_seed(seed)
        index[row] = torch.randint(settings.timesteps, (), generator=generator)
        share[row] = torch.rand((), generator=generator)
        normals[0, row].normal_(generator=generator)
        normals[1, row].normal_(generator=generator)
    guidance = settings.guidance_min + share * (settings.guidance_max - settings.guidance_min)
    return Draws(index, guidance, normals[0], normals[1])
