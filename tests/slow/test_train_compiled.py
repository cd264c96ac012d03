"""The compiled U-Net in training: torch's tracer and its autograd, run by PyTorch's usual kernels."""

import copy

import pytest
import torch
from support.training import run_config

from pm.data.dataset.reader import IdentityDataset
from pm.data.loading.loader import Loader
from pm.errors import ConfigError
from pm.model.base import load_base
from pm.train.compiled import compile_for_training
from pm.train.diffusion import noise_schedule
from pm.train.run.workers import samples_config
from pm.train.step import Precision, train_in_float32

EAGER = {"backend": "aot_eager"}


@pytest.fixture(scope="module")
def made(tiny_dataset, tiny_base):
    """A step and two batches with texts of different lengths."""
    config = run_config(tiny_dataset, tiny_base)
    base = load_base(tiny_base, ("unet",))
    torch.manual_seed(0)
    model = config.adapter.build(base).train()
    train_in_float32(model)
    with torch.no_grad():
        for parameter in model.parameter_groups()["lora"]:
            parameter.copy_(torch.randn_like(parameter) * 0.1)
    schedule, weights = noise_schedule(base.scheduler_config), config.train.loss_weights
    step = config.train.objective.build(model, schedule, base.scaling_factor, Precision(torch.float32), weights)
    dataset = IdentityDataset(tiny_dataset, samples_config(config.train), base_fingerprint=base.fingerprint)
    loader = Loader(dataset, 1, seed=0, prefetch=0, draw=config.train.objective.drawing(schedule))
    by_length = {batch.most_photos: batch for batch in (next(loader) for _ in range(30))}
    return step, list(by_length.values())[:2]


def losses_and_gradients(step, batches):
    step.zero_grad()
    losses = torch.cat([step(batch) for batch in batches])
    losses.mean().backward()
    return losses.detach(), torch.cat([p.grad.flatten() for p in step.parameters() if p.grad is not None])


@pytest.mark.parametrize(("how", "checkpointing", "lengths"), [("regional", True, 2), ("full", False, 1)])
def test_a_compiled_step_is_the_plain_one(made, how, checkpointing, lengths):
    step, batches = copy.deepcopy(made[0]), made[1][:lengths]
    if checkpointing:
        step.photomaker.unet.enable_gradient_checkpointing()
    plain = losses_and_gradients(step, batches)
    whole = {"fullgraph": True} if how == "regional" else {}
    compile_for_training(step.photomaker, how, False, **EAGER, **whole)
    counted = torch._dynamo.utils.counters
    counted.clear()
    for ours, theirs in zip(losses_and_gradients(step, batches), plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert counted["stats"]["unique_graphs"] > 0
    torch._dynamo.reset()


def test_what_cannot_be_compiled_is_said(made):
    model = made[0].photomaker
    compile_for_training(model, "off", True)
    with pytest.raises(ConfigError, match="train.compile=full does not go with engine=zero3"):
        compile_for_training(model, "full", True)
