"""Samplers by name: those of `conf/sampler/`, as the command line knows them."""

from dataclasses import replace

import pytest

from pm.choice import part_names
from pm.errors import ConfigError, RequestError
from pm.sample.config import guided_steps, usual_merge_fraction
from pm.sample.presets import lora_name, preset, preset_names
from pm.sample.request import request_of
from pm.sample.said import interval_said, schedule_said
from pm.sample.schedule import Schedule
from pm.sample.schedules.base import ScheduleChoice

SDXL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
FEW = {"lightning2": 2, "lightning4": 4, "lightning8": 8, "turbo": 4, "hyper4": 4, "hyper8": 8, "lcm": 4, "tcd": 4}
# The first timesteps of each on SDXL's own noise process: distilled models are wrong at any others.
FIRST = {"lightning4": [999, 749, 499, 249], "turbo": [999, 749, 499, 249], "lightning2": [999, 499]}
FIRST |= {"hyper4": [999, 749, 499, 249], "lcm": [999, 759, 499, 259], "tcd": [999, 759, 499, 259]}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_makes_a_request_and_a_plan(name):
    sampler = preset(name)
    request = request_of(sampler, "a man img")
    assert (request.schedule, request.steps, request.eta) == (sampler.schedule, sampler.steps, sampler.eta)
    plan = Schedule("ddim", SDXL).of(request.schedule).plan(request.steps, request.eta)
    assert plan.steps == sampler.steps


def test_presets_of_few_steps_take_the_timesteps_they_were_distilled_at_without_guidance():
    for name, steps in FEW.items():
        sampler = preset(name)
        assert (sampler.steps, sampler.guidance, sampler.merge_fraction) == (steps, 1.0, 0.0), name
        assert bool(sampler.loras) == (name != "turbo")  # that has a U-Net of its own
    for name, timesteps in FIRST.items():
        sampler = preset(name)
        plan = Schedule("ddim", SDXL).of(sampler.schedule).plan(sampler.steps, sampler.eta)
        assert plan.timesteps.tolist() == timesteps, name
    assert preset("tcd").eta == 0.3


def test_every_schedule_is_in_a_preset():
    assert {preset(name).schedule.name for name in preset_names()} == set(part_names(ScheduleChoice))


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(
        RequestError, match="sampler='lightning' is not one of ours; did you mean 'lightning\\d'\\? known: .*unipc"
    ):
        preset("lightning")
    with pytest.raises(RequestError, match="known: .*dpmpp_2m"):
        preset("../generate")


def test_loras_are_named_by_what_tells_them_apart():
    assert lora_name("ByteDance/SDXL-Lightning/sdxl_lightning_4step_lora.safetensors") == "sdxl_lightning_4step_lora"
    assert lora_name("latent-consistency/lcm-lora-sdxl") == "lcm-lora-sdxl"
    assert lora_name("h1t/TCD-SDXL-LoRA/pytorch_lora_weights.safetensors:0.8") == "TCD-SDXL-LoRA"
    assert lora_name("runs/toon_lcm/adapter.safetensors") == "toon_lcm"
    assert lora_name("style.safetensors:1") == "style" and lora_name("pytorch_lora_weights.safetensors") == (
        "pytorch_lora_weights"
    )


def test_the_usual_merge_fraction_is_the_bases():
    sampler = preset("dpmpp_2m")
    assert sampler.merge_fraction is None and sampler.merge_step is None
    for drawn in (False, True):
        assert sampler.on(drawn).merge_fraction == usual_merge_fraction(drawn)
    assert preset("sdxl").on(True) == preset("sdxl")


def test_a_guidance_interval_counts_in_whole_steps():
    assert guided_steps(0, 1, 30) == (0, 30)
    assert guided_steps(0.2, 0.8, 50) == (10, 40)
    assert guided_steps(0.5, 0.5, 9) == (4, 4)  # none
    with pytest.raises(ConfigError, match="guidance_start=0.9 is above sampler.guidance_end=0.1"):
        replace(preset("sdxl"), guidance_start=0.9, guidance_end=0.1)


def test_a_picture_says_what_is_not_plain():
    assert schedule_said(preset("sdxl").schedule) == {"schedule": "ddim"}
    assert schedule_said(preset("dpmpp_2m_karras").schedule) == {"schedule": "dpmpp_2m", "karras": True}
    assert interval_said(0.0, 1.0) == {} and interval_said(0.2, 1.0) == {"guidance_start": 0.2, "guidance_end": 1.0}
