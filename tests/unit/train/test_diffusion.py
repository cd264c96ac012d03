"""The objective's formulas, against diffusers' own schedulers and by their properties."""

import dataclasses

import pytest
import torch
from diffusers import DDPMScheduler

from pm.errors import ConfigError
from pm.train import diffusion
from pm.train.diffusion import add_noise, draw, noise_schedule, sample_latents, target

SDXL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
CONFIGS = [
    SDXL,
    SDXL | {"prediction_type": "v_prediction"},
    {"beta_schedule": "linear"},
    {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 200},
    SDXL | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
]


@pytest.mark.parametrize("config", CONFIGS)
def test_noising_and_target_are_those_of_diffusers(config):
    theirs, ours = DDPMScheduler.from_config(config), noise_schedule(config)
    g = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 5, 3, 4, 4, generator=g)
    timesteps = torch.tensor([0, 1, 57, 150, len(ours) - 1])
    torch.testing.assert_close(
        add_noise(ours, latents, noise, timesteps), theirs.add_noise(latents, noise, timesteps), rtol=2e-4, atol=2e-4
    )
    if ours.prediction == "v_prediction":
        expected = theirs.get_velocity(latents, noise, timesteps)
        torch.testing.assert_close(target(ours, latents, noise, timesteps), expected, rtol=2e-4, atol=2e-4)
    else:
        assert target(ours, latents, noise, timesteps) is noise


def test_trained_betas_and_unknown_names():
    betas = [0.1, 0.2, 0.3]
    schedule = noise_schedule({"trained_betas": betas})
    torch.testing.assert_close(schedule.signal**2, torch.tensor([0.9, 0.72, 0.504]))
    with pytest.raises(ConfigError, match="beta_schedule='sigmoid'"):
        noise_schedule({"beta_schedule": "sigmoid"})
    with pytest.raises(ConfigError, match="prediction_type='flow'"):
        noise_schedule({"prediction_type": "flow"})


def test_a_row_depends_on_its_own_seed_only():
    seeds = torch.tensor([3, 2**62, 17])
    together = draw(seeds, (4, 8, 8), 1000)
    for row, seed in enumerate(seeds):
        alone = draw(seed[None], (4, 8, 8), 1000)
        for field in dataclasses.fields(diffusion.Draws):
            assert torch.equal(getattr(together, field.name)[row], getattr(alone, field.name)[0])
    assert not torch.equal(together.noise[0], together.noise[2])
    assert not torch.equal(together.noise[0], together.posterior[0])


def test_timesteps_are_uniform():
    timesteps = draw(torch.arange(4000), (1, 1, 1), 10).timesteps
    counts = torch.bincount(timesteps, minlength=10)
    assert counts.shape == (10,) and counts.min() > 320 and counts.max() < 480


def test_latents_have_the_posteriors_moments():
    mean, logvar = torch.full((1, 1, 200, 200), 3.0), torch.full((1, 1, 200, 200), 2.0).log() * 2
    latents = sample_latents(mean, logvar, torch.randn(1, 1, 200, 200, generator=torch.Generator().manual_seed(0)), 0.5)
    assert latents.mean().item() == pytest.approx(1.5, abs=0.02)
    assert latents.std().item() == pytest.approx(1.0, abs=0.02)
