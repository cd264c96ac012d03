"""The objective's formulas, against diffusers' own schedulers and by their properties."""

import dataclasses

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from pm.errors import ConfigError
from pm.train import diffusion
from pm.train.diffusion import add_noise, draw, masked_mse, noise_schedule, sample_latents, snr_weight, target

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


def test_masked_loss_sees_only_the_mask_and_keeps_its_scale():
    wanted = torch.zeros(4, 2, 4, 4)
    prediction = torch.ones(4, 2, 4, 4)
    mask = torch.zeros(4, 1, 4, 4)
    mask[:, :, :2] = 1
    prediction[0, :, 2:] = 100  # outside
    prediction[1, :, 2:] = 100
    mask[3] = 0  # nothing to look at
    loss = masked_mse(prediction, wanted, mask, torch.tensor([True, False, True, True]))
    assert loss[0] == 1  # an error of 1 inside costs 1, whatever is outside
    assert loss[1] == (1 + 100**2) / 2
    assert loss[2] == 1
    assert loss[3] == 1  # unmasked, and no division by zero


def test_soft_masks_weigh_by_coverage():
    mask = torch.tensor([[[[1.0, 0.5]]]])
    error = torch.tensor([[[[1.0, 2.0]]]])
    loss = masked_mse(error, torch.zeros_like(error), mask, torch.tensor([True]))
    assert loss.item() == pytest.approx((1 * 1 + 0.5 * 4) / 1.5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_min_snr_is_its_definition(prediction):
    config = SDXL | {"prediction_type": prediction}
    timesteps = torch.tensor([0, 10, 300, 600, 999])
    snr = compute_snr(DDPMScheduler.from_config(config), timesteps)
    clipped = torch.minimum(snr, torch.tensor(5.0))
    expected = {"epsilon": clipped / snr, "v_prediction": clipped / (snr + 1), "sample": clipped}[prediction]
    torch.testing.assert_close(
        snr_weight(noise_schedule(config), timesteps, "min_snr", 5.0), expected, rtol=1e-3, atol=1e-5
    )
    assert torch.equal(snr_weight(noise_schedule(config), timesteps, "uniform", 5.0), torch.ones(5))


def test_min_snr_is_finite_where_there_is_no_signal():
    schedule = noise_schedule(SDXL | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"})
    for rule in ("min_snr", "debiased"):
        assert torch.isfinite(snr_weight(schedule, torch.tensor([0, 999]), rule, 5.0)).all()


def test_debiased_is_one_over_root_snr_of_the_noise():
    levels = noise_schedule(SDXL)
    timesteps = torch.tensor([0, 300, 999])
    signal, noise = levels.at(timesteps)
    torch.testing.assert_close(snr_weight(levels, timesteps, "debiased", 5.0), (noise / signal).flatten())
