"""Our one-table schedules against diffusers' own schedulers, run row by row."""

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from pm.errors import ConfigError, RequestError
from pm.sample.schedule import Schedule, advance
from pm.sample.schedules.base import INPUT_SCALE

SDXL = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "prediction_type": "epsilon",
}
SPACINGS, PREDICTIONS = ("leading", "linspace", "trailing"), ("epsilon", "v_prediction", "sample")


def _model(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Something smooth that depends on all of its input."""
    return torch.tanh(x.roll(1, -1) + 0.3 * x) + torch.sin(t.float() / 100)


def _theirs(scheduler, steps: int, start: torch.Tensor, eta: float) -> torch.Tensor:
    scheduler.set_timesteps(steps)
    x, generator = start * scheduler.init_noise_sigma, torch.Generator().manual_seed(5)
    extra = {"eta": eta, "generator": generator} if eta else {}
    for t in scheduler.timesteps:
        output = _model(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(output, t, x, **extra, return_dict=False)[0]
    return x


def _ours(schedule: Schedule, steps: int, start: torch.Tensor, eta: float) -> torch.Tensor:
    plan, generator = schedule.plan(steps, eta), torch.Generator().manual_seed(5)
    x = start * plan.init_sigma
    for i in range(plan.steps):
        table = plan.table[i][None]
        noise = torch.randn(x.shape, generator=generator) if eta else None
        x = advance(x, _model(x * table[0, INPUT_SCALE], plan.timesteps[i]), table, noise)
    return x


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("kind", "eta"), [("ddim", 0.0), ("ddim", 0.7), ("euler", 0.0)])
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_same_trajectory_as_diffusers(kind, eta, spacing, prediction, steps):
    config = SDXL | {"timestep_spacing": spacing, "prediction_type": prediction}
    theirs = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler}[kind].from_config(config)
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = _theirs(theirs, steps, start, eta)
    torch.testing.assert_close(_ours(Schedule(kind, config), steps, start, eta), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("kind", "theirs"), [("ddim", DDIMScheduler), ("euler", EulerDiscreteScheduler)])
def test_a_picture_is_noised_as_diffusers_does_it(kind, theirs, prediction):
    """On the way into the middle of a plan; the end is the picture itself."""
    config = SDXL | {"prediction_type": prediction}
    plan, scheduler = Schedule(kind, config).plan(9), theirs.from_config(config)
    scheduler.set_timesteps(9)
    generator = torch.Generator().manual_seed(0)
    picture, noise = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    for i, t in enumerate(scheduler.timesteps):
        signal, share = plan.levels[i]
        expected = scheduler.add_noise(picture, noise, t[None])
        torch.testing.assert_close(signal * picture + share * noise, expected, rtol=1e-4, atol=1e-4)
    assert plan.levels[9].tolist() == [1, 0]


@pytest.mark.parametrize("beta_schedule", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_other_noise_levels(beta_schedule, zero_snr):
    config = SDXL | {
        "beta_schedule": beta_schedule,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": zero_snr,
    }
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = _theirs(DDIMScheduler.from_config(config), 20, start, 0.0)
    torch.testing.assert_close(_ours(Schedule("ddim", config), 20, start, 0.0), expected, rtol=1e-3, atol=1e-3)


def test_set_alpha_to_one_is_read():
    config = SDXL | {"set_alpha_to_one": True, "steps_offset": 0}
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = _theirs(DDIMScheduler.from_config(config), 10, start, 0.0)
    torch.testing.assert_close(_ours(Schedule("ddim", config), 10, start, 0.0), expected, rtol=2e-4, atol=2e-4)


def test_what_cannot_be_done_is_refused():
    schedule = Schedule("ddim", SDXL)
    for steps in (0, 1001):
        with pytest.raises(RequestError, match="use 1 to 1000"):
            schedule.plan(steps)
    with pytest.raises(RequestError, match="eta=2"):
        schedule.plan(10, 2.0)
    with pytest.raises(RequestError, match="needs schedule=ddim"):
        Schedule("euler", SDXL).plan(10, 0.5)
    with pytest.raises(ConfigError, match="schedule='dpm' is not one of ddim, euler"):
        Schedule("dpm", SDXL)
    with pytest.raises(ConfigError, match="clip_sample=true"):
        Schedule("ddim", SDXL | {"clip_sample": True})
    with pytest.raises(ConfigError, match="cannot start from pure noise"):
        Schedule("ddim", SDXL | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}).plan(10)
