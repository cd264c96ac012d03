"""Latent consistency distillation: its maths against diffusers' schedulers, and its step on a model that is exact."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
import yaml
from diffusers import DDIMScheduler, LCMScheduler
from support.training import ROOT, random_batch, rows, run_config
from torch import nn

from pm.config import from_mapping
from pm.errors import ConfigError
from pm.train.consistency import (
    ConsistencyStep,
    clean_and_noise,
    consistency,
    ddim_step,
    draw,
    solver_timesteps,
)
from pm.train.diffusion import noise_schedule
from pm.train.losses.uniform import Uniform
from pm.train.objectives.base import ObjectiveChoice
from pm.train.step import Precision

SDXL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "set_alpha_to_one": False}
PREDICTIONS = ("epsilon", "v_prediction", "sample")
SHAPE = (2, 4, 4)


def objective(**over):
    values = yaml.safe_load((ROOT / "conf/objective/lcm.yaml").read_text())
    return from_mapping(ObjectiveChoice, values | over, "train.objective")


def numbers(count=3):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, *SHAPE, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_teachers_step_is_ddims_and_its_timesteps_are_those_of_the_sampler(prediction):
    config = SDXL | {"prediction_type": prediction}
    schedule = noise_schedule(config)
    theirs, sampler = DDIMScheduler.from_config(config, clip_sample=False), LCMScheduler.from_config(config)
    theirs.set_timesteps(50)
    sampler.set_timesteps(50)
    assert solver_timesteps(schedule, 50).tolist() == sampler.timesteps.tolist()[::-1]
    noisy, output, _ = numbers()
    for t in (999, 519, 39):
        start = torch.tensor([t] * 3)
        clean, noise = clean_and_noise(schedule, noisy, output, start)
        expected = theirs.step(output, t, noisy)
        torch.testing.assert_close(clean, expected.pred_original_sample, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            ddim_step(schedule, clean, noise, start - 20), expected.prev_sample, rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_estimate_is_what_the_sampler_takes_it_for(prediction):
    config = SDXL | {"prediction_type": prediction}
    schedule, sampler = noise_schedule(config), LCMScheduler.from_config(config)
    sampler.set_timesteps(4)
    noisy, output, _ = numbers()
    start = sampler.timesteps[:1].repeat(3)
    clean, _ = clean_and_noise(schedule, noisy, output, start)
    expected = sampler.step(output, sampler.timesteps[0], noisy).denoised
    torch.testing.assert_close(consistency(noisy, clean, start, 10.0), expected, rtol=1e-4, atol=1e-4)


def test_at_the_clean_end_the_estimate_is_the_latents():
    noisy, clean, _ = numbers()
    assert torch.equal(consistency(noisy, clean, torch.zeros(3, dtype=torch.int64), 10.0), noisy)


class Exact(nn.Module):
    """Predicts the noise of a world with one picture, which its LoRA spoils by an offset that is trained."""

    def __init__(self, schedule, picture, offset):
        super().__init__()
        self.schedule, self.picture, self.calls = schedule, picture, []
        self.unet = nn.Identity()
        self.offset = nn.Parameter(torch.tensor(offset))

    def drop_rows(self, conditioning, drop):
        return conditioning

    def predict(self, noisy, timesteps, conditioning):
        self.calls.append((len(noisy), torch.is_grad_enabled()))
        signal, noise = self.schedule.at(timesteps)
        teaching = len(self.calls) % 3 == 1  # the teacher's comes first
        return (noisy - signal * self.picture) / noise + (0 if teaching else self.offset)


def step_of(offset=0.0, **over):
    schedule = noise_schedule(SDXL)
    model = Exact(schedule, torch.full(SHAPE, 0.3), offset)
    return ConsistencyStep(model, schedule, 1.0, Precision(torch.float32), objective(**over))


def batch_of_the_picture(size=4, seed=0):
    batch = random_batch(size, seed=seed, shape=SHAPE)
    # `Conditioning` needs a text of one token.
    text = {"embeds": torch.zeros(size, 1, 2), "pooled": torch.zeros(size, 2), "time_ids": torch.zeros(size, 6)}
    return dataclasses.replace(
        batch, mean=torch.full((size, *SHAPE), 0.3), logvar=torch.full((size, *SHAPE), -30.0), **text
    )


def test_an_exact_model_has_no_loss_and_another_one_has_whatever_the_guidance():
    for guidance in (1.0, 5.0):
        settings = {"guidance_min": guidance, "guidance_max": guidance}
        exact, spoilt = (step_of(offset, **settings)(batch_of_the_picture(16)) for offset in (0.0, 0.5))
        assert exact.shape == (16,) and exact.max() < 0.05 < spoilt.mean()


def test_the_teacher_is_doubled_and_only_the_student_at_the_noisy_end_has_a_gradient():
    step = step_of(0.5)
    step(batch_of_the_picture()).mean().backward()
    assert step.photomaker.calls == [(8, False), (4, False), (4, True)]
    assert step.photomaker.offset.grad.abs() > 0


def test_loss_of_a_batch_is_that_of_its_rows():
    batch, together = batch_of_the_picture(3), step_of(0.5)(batch_of_the_picture(3))
    singles = [step_of(0.5)(rows(batch, [i])) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(singles))


def test_draws_are_each_seeds_own_and_cover_the_guidance():
    seeds = torch.arange(400)
    draws = draw(seeds, SHAPE, objective(guidance_min=2.0, guidance_max=4.0))
    assert 2 <= draws.guidance.min() < 2.1 and 3.9 < draws.guidance.max() <= 4
    assert set(draws.index.tolist()) == set(range(50))
    again = draw(seeds[7:8], SHAPE, objective(guidance_min=2.0, guidance_max=4.0))
    assert torch.equal(again.noise[0], draws.noise[7]) and again.guidance[0] == draws.guidance[7]


def test_what_does_not_go_with_it_is_refused():
    lcm, lora = yaml.safe_load((ROOT / "conf/objective/lcm.yaml").read_text()), lora_settings()
    assert run_config("data", "base", train__objective=lcm, adapter=lora).adapter.name == "lora"
    with pytest.raises(ConfigError, match="objective=lcm distils .* not into model=photomaker; set model=lora"):
        run_config("data", "base", train__objective=lcm)
    with pytest.raises(ConfigError, match="takes no loss_weights=debiased; set loss_weights=uniform"):
        run_config("data", "base", train__objective=lcm, adapter=lora, train__loss_weights="debiased")
    with pytest.raises(ConfigError, match="guidance_max=2.0 is below train.objective.guidance_min=3.0"):
        objective(guidance_max=2.0)
    with pytest.raises(ConfigError, match="train.objective.huber=0.0 must be above 0"):
        objective(huber=0.0)
    with pytest.raises(ConfigError, match="timesteps=2000 is more than the base was trained with: 1000"):
        arguments = SimpleNamespace(), noise_schedule(SDXL), 1.0, Precision(torch.float32), Uniform("uniform")
        objective(timesteps=2000).build(*arguments)


def lora_settings():
    return yaml.safe_load((ROOT / "conf/model/lora.yaml").read_text())["adapter"]
