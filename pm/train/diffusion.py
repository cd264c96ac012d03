"""The training objective as pure functions: noise levels, noising, targets (the losses are in `losses/`).

Shapes: B samples, C latent channels, h x w latent pixels, T diffusion steps. Everything is out of place, and every
random number of a sample comes from that sample's own seed: its loss depends neither on the other samples of the batch
nor on the number of workers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pm.model.noise import alpha_bar, prediction_type


@dataclass(frozen=True)
class NoiseSchedule:
    """How a base model was trained to see noise: z_t = signal[t] z_0 + noise[t] eps."""

    signal: Tensor  # [T] float32, sqrt(alpha_bar)
    noise: Tensor  # [T] float32, sqrt(1 - alpha_bar)
    prediction: str  # "epsilon" | "v_prediction" | "sample"
    _there: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return self.signal.shape[0]

    def at(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise level of each sample, both [B, 1, 1, 1] on the device of `timesteps` [B] int64."""
        # Copied once: a copy in every step would wait for all that is queued on a GPU.
        if timesteps.device not in self._there:
            self._there[timesteps.device] = (self.signal.to(timesteps.device), self.noise.to(timesteps.device))
        signal, noise = (level[timesteps].view(-1, 1, 1, 1) for level in self._there[timesteps.device])
        return signal, noise


@dataclass(frozen=True)
class Draws:
    """The random numbers of a batch, each row from its own seed."""

    timesteps: Tensor  # [B] int64 in 0..T-1
    posterior: Tensor  # [B, C, h, w] standard normal, picks the VAE's sample
    noise: Tensor  # [B, C, h, w] standard normal, the noise to predict


def noise_schedule(config: Mapping[str, Any]) -> NoiseSchedule:
    """Noise levels of a diffusers `scheduler_config.json`.

    Raises:
        ConfigError: a beta schedule or prediction type that is not known.
    """
    level = alpha_bar(config)
    return NoiseSchedule(level.sqrt().float(), (1.0 - level).sqrt().float(), prediction_type(config))


def draw(seeds: Tensor, shape: tuple[int, int, int], steps: int) -> Draws:
    """Draw timestep, VAE sample and noise of each row from its seed, on the CPU (the same numbers on every device).

    Args:
        seeds: [B] int64.
        shape: C, h, w of one latent.
        steps: T; timesteps are uniform in 0..T-1.
    """
    timesteps = torch.empty(len(seeds), dtype=torch.int64)
    normals = torch.empty(2, len(seeds), *shape)
    generator = torch.Generator()
    for row, seed in enumerate(seeds.tolist()):
        generator.manual_seed(seed)
        timesteps[row] = torch.randint(steps, (), generator=generator)
        normals[0, row].normal_(generator=generator)
        normals[1, row].normal_(generator=generator)
    return Draws(timesteps, normals[0], normals[1])


def sample_latents(mean: Tensor, logvar: Tensor, posterior: Tensor, scaling_factor: float) -> Tensor:
    """z_0 [B, C, h, w] float32 in the diffusion space, from VAE moments of the same shape (not yet scaled)."""
    # The clamp is the autoencoder's own (diffusers DiagonalGaussianDistribution).
    deviation = torch.exp(0.5 * logvar.float().clamp(-30.0, 20.0))
    return (mean.float() + deviation * posterior) * scaling_factor


def add_noise(schedule: NoiseSchedule, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """z_t, as `latents` [B, C, h, w]; the forward process of Ho et al. 2020, eq. 4."""
    signal_level, noise_level = schedule.at(timesteps)
    return signal_level * latents + noise_level * noise


def target(schedule: NoiseSchedule, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the U-Net must predict at z_t, [B, C, h, w]: the noise, the velocity (Salimans & Ho 2022) or z_0."""
    if schedule.prediction == "epsilon":
        return noise
    if schedule.prediction == "sample":
        return latents
    signal_level, noise_level = schedule.at(timesteps)
    return signal_level * noise - noise_level * latents


def clean_and_noise(schedule: NoiseSchedule, noisy: Tensor, output: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """What a prediction says of z_0 and of the noise, each [B, C, h, w]; `noisy` and `output` likewise, t [B]."""
    signal, noise = schedule.at(timesteps)
    if schedule.prediction == "v_prediction":
        return signal * noisy - noise * output, noise * noisy + signal * output
    if schedule.prediction == "sample":
        return output, (noisy - signal * output) / noise
    return (noisy - noise * output) / signal, output
