"""Our one-table schedules against diffusers' own schedulers, run row by row."""

import inspect
from functools import partial

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)

from pm.config import from_mapping
from pm.errors import ConfigError, RequestError
from pm.sample.schedule import Schedule, advance, clean_estimate
from pm.sample.schedules.base import INPUT_SCALE, NOISE, ScheduleChoice

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


def _theirs(scheduler, steps: int, start: torch.Tensor, eta: float = 0.0, begin: int = 0) -> torch.Tensor:
    """A trajectory from `start`; with `begin`, from noise at that step on."""
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(5)
    known = inspect.signature(scheduler.step).parameters
    extra = {"eta": eta} if "eta" in known else {}
    extra |= {"generator": generator} if "generator" in known else {}
    x = start * scheduler.init_noise_sigma
    if hasattr(scheduler, "set_begin_index"):  # else it is looked for by its timestep, which may be there twice
        scheduler.set_begin_index(begin)
    if begin:
        x = scheduler.add_noise(torch.zeros_like(start), start, scheduler.timesteps[begin : begin + 1])
    for t in scheduler.timesteps[begin:]:
        output = _model(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(output, t, x, **extra, return_dict=False)[0]
    return x


def _ours(schedule: Schedule, steps: int, start: torch.Tensor, eta: float = 0.0, begin: int = 0) -> torch.Tensor:
    plan, generator = schedule.plan(steps, eta), torch.Generator().manual_seed(5)
    x, past = start * plan.init_sigma, ()
    if begin:
        x = plan.levels[begin, 1] * start
    for i in range(begin, plan.steps):
        table = plan.line(i, len(past))[None]
        output = _model(x * table[0, INPUT_SCALE], plan.timesteps[i])
        noise = torch.randn(x.shape, generator=generator) if table[0, NOISE] else None
        estimate = clean_estimate(x, output, table)
        x = advance(x, output, table, noise, past)
        past = (estimate, *past)[: plan.history]
    return x


KINDS = {
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "euler_ancestral": EulerAncestralDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
    "dpmpp_2m_sde": partial(DPMSolverMultistepScheduler, algorithm_type="sde-dpmsolver++"),
    "unipc": UniPCMultistepScheduler,
    "lcm": LCMScheduler,
    "tcd": TCDScheduler,
}


def _made(kind: str, config: dict):
    """Diffusers' scheduler with what it knows of a config."""
    make = KINDS[kind]
    cls = make.func if isinstance(make, partial) else make
    fixed = make.keywords if isinstance(make, partial) else {}
    return cls.from_config(config, **fixed)


def _start() -> torch.Tensor:
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def _compare(kind: str, config: dict, steps: int, eta: float = 0.0, begin: int = 0, tolerance: float = 2e-4) -> None:
    expected = _theirs(_made(kind, config), steps, _start(), eta, begin)
    assert torch.isfinite(expected).all()
    found = _ours(Schedule(kind, config), steps, _start(), eta, begin)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


CASES = [("ddim", 0.0), ("ddim", 0.7), ("euler", 0.0), ("euler_ancestral", 0.0), ("dpmpp_2m", 0.0)]
CASES += [("dpmpp_2m_sde", 0.0), ("unipc", 0.0), ("lcm", 0.0), ("tcd", 0.0), ("tcd", 0.3), ("tcd", 1.0)]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("kind", "eta"), CASES)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 20, 50])
def test_same_trajectory_as_diffusers(kind, eta, spacing, prediction, steps):
    if (kind, prediction) == ("euler_ancestral", "sample"):
        pytest.skip("diffusers has no ancestral step for it")
    _compare(kind, SDXL | {"timestep_spacing": spacing, "prediction_type": prediction}, steps, eta)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("final", ["zero", "sigma_min"])
@pytest.mark.parametrize("kind", ["euler", "dpmpp_2m", "dpmpp_2m_sde", "unipc"])
@pytest.mark.parametrize("steps", [1, 5, 14, 15, 25])
def test_karras_levels_and_final_sigmas(kind, final, prediction, steps):
    config = SDXL | {"final_sigmas_type": final, "prediction_type": prediction}
    _compare(kind, config, steps)
    if (kind, final) != ("unipc", "sigma_min"):  # its last step has no length, for which diffusers answers NaN
        _compare(kind, config | {"use_karras_sigmas": True}, steps)


@pytest.mark.parametrize(
    "setting",
    [
        {"lower_order_final": False},
        {"euler_at_final": True},
        {"solver_type": "heun"},
        {"solver_type": "bh1", "final_sigmas_type": "sigma_min"},  # to sigma 0 diffusers answers NaN with it
        {"solver_order": 1},
        {"disable_corrector": [0, 1, 4]},
        {"lower_order_final": False, "final_sigmas_type": "sigma_min"},
        {"solver_type": "heun", "final_sigmas_type": "sigma_min", "lower_order_final": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["dpmpp_2m", "dpmpp_2m_sde", "unipc"])
@pytest.mark.parametrize("steps", [2, 9, 20])
def test_a_solvers_own_settings(kind, setting, steps):
    config = SDXL | setting
    if kind == "unipc" and setting == {"lower_order_final": False}:
        assert not torch.isfinite(_theirs(_made(kind, config), steps, _start())).all()  # second order to sigma 0
        assert torch.isfinite(_ours(Schedule(kind, config), steps, _start())).all()
        return
    _compare(kind, config, steps)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("begin", [1, 2, 5, 9])
def test_a_row_that_starts_later_has_no_history_yet(kind, begin):
    """As image-to-image does: the first steps after any start are of lower order."""
    eta = 0.3 if kind == "tcd" else 0.0
    _compare(kind, SDXL, 10, eta, begin)
    if kind in ("dpmpp_2m", "unipc"):
        _compare(kind, SDXL | {"use_karras_sigmas": True, "lower_order_final": False, **MIN}, 20, eta, begin)


MIN = {"final_sigmas_type": "sigma_min", "use_karras_sigmas": False}


@pytest.mark.parametrize("original", [4, 50, 100])
@pytest.mark.parametrize("kind", ["lcm", "tcd"])
def test_timesteps_of_distillation(kind, original):
    for steps in {1, 3, 4, original}:
        _compare(kind, SDXL | {"original_inference_steps": original, "timestep_scaling": 3.0}, steps)
    with pytest.raises(RequestError, match=f"schedule={kind}; use 1 to {original}"):
        Schedule(kind, SDXL | {"original_inference_steps": original}).plan(original + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_noised_as_diffusers_does_it(kind):
    """On the way into the middle of a plan; the end is the picture itself."""
    plan, scheduler = Schedule(kind, SDXL).plan(9), _made(kind, SDXL)
    scheduler.set_timesteps(9)
    generator = torch.Generator().manual_seed(0)
    picture, noise = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    for i, t in enumerate(scheduler.timesteps):
        signal, share = plan.levels[i]
        expected = scheduler.add_noise(picture, noise, t[None])
        torch.testing.assert_close(signal * picture + share * noise, expected, rtol=1e-4, atol=1e-4)
    assert plan.levels[9].tolist() == [1, 0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beta_schedule", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_other_noise_levels(kind, beta_schedule, zero_snr):
    config = SDXL | {
        "beta_schedule": beta_schedule,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": zero_snr,
    }
    _compare(kind, config, 20, tolerance=1e-3)
    if kind in ("dpmpp_2m", "unipc"):
        _compare(kind, config | {"use_karras_sigmas": True}, 20, tolerance=1e-3)


def test_set_alpha_to_one_is_read():
    _compare("ddim", SDXL | {"set_alpha_to_one": True, "steps_offset": 0}, 10)


def test_a_schedules_own_settings_go_before_the_bases():
    """And the config that is handed to diffusers says them too."""
    chosen = from_mapping(ScheduleChoice, {"name": "euler", "spacing": "trailing", "karras": True})
    schedule = Schedule(chosen, SDXL)
    found = _ours(schedule, 8, _start())
    theirs = EulerDiscreteScheduler.from_config(SDXL, timestep_spacing="trailing", use_karras_sigmas=True)
    torch.testing.assert_close(found, _theirs(theirs, 8, _start()), rtol=2e-4, atol=2e-4)
    assert schedule.config == SDXL | {"timestep_spacing": "trailing", "use_karras_sigmas": True}
    for kind in KINDS:
        again = Schedule(None, dict(_made(kind, Schedule(kind, SDXL).config).config) | {"_class_name": _name(kind)})
        assert again.choice.name == kind


def _name(kind: str) -> str:
    made = KINDS[kind]
    return (made.func if isinstance(made, partial) else made).__name__


def test_what_cannot_be_done_is_refused():
    schedule = Schedule("ddim", SDXL)
    for steps in (0, 1001):
        with pytest.raises(RequestError, match="use 1 to 1000"):
            schedule.plan(steps)
    with pytest.raises(RequestError, match="eta=2"):
        schedule.plan(10, 2.0)
    with pytest.raises(RequestError, match="needs schedule=ddim or tcd; euler takes none"):
        Schedule("euler", SDXL).plan(10, 0.5)
    with pytest.raises(
        ConfigError,
        match="schedule='dpm' is not one of ddim, dpmpp_2m, dpmpp_2m_sde, euler, euler_ancestral, lcm, tcd, unipc",
    ):
        Schedule("dpm", SDXL)
    with pytest.raises(ConfigError, match="clip_sample=true"):
        Schedule("ddim", SDXL | {"clip_sample": True})
    with pytest.raises(ConfigError, match="cannot start from pure noise"):
        Schedule("ddim", SDXL | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}).plan(10)
