"""A training step never waits for the GPU: it runs on tensors without numbers, where reading one is an error.

Without the backward pass, which is torch's alone: a build of torch without CUDA cannot follow gradients there.
"""

import dataclasses

import pytest
import torch
from support.fake_cuda import Operations, fake_cuda, module_to_cuda, to_cuda
from support.training import ROOT, run_config, train_config
from torch._subclasses.fake_tensor import DataDependentOutputException

from pm.data.dataset.reader import IdentityDataset
from pm.data.loading.loader import Loader
from pm.model.base import load_base
from pm.train.callbacks.meter import Meter
from pm.train.diffusion import noise_schedule
from pm.train.ema import MovingAverage
from pm.train.engine.base import make_optimizer
from pm.train.engine.ddp import TorchEngine
from pm.train.run.workers import samples_config
from pm.train.step import Precision, train_in_float32

GPU = torch.device("cuda")
LCM = {"name": "lcm", "timesteps": 10, "guidance_min": 1, "guidance_max": 2, "huber": 0.1, "timestep_scaling": 10.0}
KINDS = {
    "photomaker": {},
    "repeat": {"adapter__merge": "repeat"},
    "average": {"adapter__compose": "average"},
    "ip_adapter": {"adapter": "ip_adapter"},
    "fastcomposer": {"adapter": "fastcomposer"},
    "lora": {"adapter": "lora"},
    "lcm": {"adapter": "lora", "train__objective": LCM},
}


@pytest.fixture(scope="module")
def made(tiny_dataset, tiny_base):
    """Step, parameter groups and batch of a kind."""

    def make(**over):
        config = run_config(tiny_dataset, tiny_base, **settings(over), train__null_text=0.5)
        base = load_base(tiny_base, (*config.adapter.parts(), "text"), dtype=torch.bfloat16)
        model = config.adapter.build(base).train()
        train_in_float32(model)
        schedule = noise_schedule(base.scheduler_config)
        step = config.train.objective.build(
            model, schedule, base.scaling_factor, Precision(torch.bfloat16), config.train.loss_weights
        )
        dataset = IdentityDataset(tiny_dataset, samples_config(config.train), base_fingerprint=base.fingerprint)
        draw = config.train.objective.drawing(schedule)
        batch = next(Loader(dataset, 3, seed=0, prefetch=0, draw=draw))
        return step, model.parameter_groups(), dataclasses.replace(batch, repeated=True)  # for merge=repeat

    return make


def settings(over):
    """`adapter`: the name of a file in conf/model."""
    import yaml

    name = over.pop("adapter", None)
    if name is None:
        return over
    values = yaml.safe_load((ROOT / f"conf/model/{name}.yaml").read_text())["adapter"]
    return over | {"adapter": values}


def forward(step, batch):
    """Losses of the second call, and what was started and copied in it."""
    with torch.no_grad():
        step(batch)  # what stays on the GPU is copied once
        with Operations() as seen:
            return step(batch), seen


def moved(batch):
    return dataclasses.replace(
        batch,
        draws=dataclasses.replace(batch.draws, **{k: to_cuda(v) for k, v in vars(batch.draws).items()}),
        **{k: to_cuda(v) for k, v in vars(batch).items() if isinstance(v, torch.Tensor)},
    )


@pytest.mark.parametrize("kind", KINDS)
def test_forward_reads_and_copies_nothing(made, kind):
    step, _, batch = made(**KINDS[kind])
    with fake_cuda():
        losses, seen = forward(module_to_cuda(step), moved(batch))
    assert losses.shape == (3,) and losses.device.type == "cuda"
    assert seen.copies == [] and seen.counts.total() > 100


def test_what_the_loader_did_not_bring_would_be_read(made):
    step, _, batch = made()
    with fake_cuda():
        there = moved(batch)
        module_to_cuda(step)
        with pytest.raises(DataDependentOutputException):
            forward(step, dataclasses.replace(there, photos=()))
        with pytest.raises(DataDependentOutputException):
            forward(step, dataclasses.replace(there, draws=None))


def test_update_average_and_sums_read_nothing(made):
    step, _, _ = made()
    with fake_cuda():
        module_to_cuda(step, gradients=True)
        groups = step.photomaker.parameter_groups()
        engine = TorchEngine(step, make_optimizer(groups, train_config(), GPU), train_config(batch_size=3))
        average, meter = MovingAverage(engine, 0.99), Meter(GPU)
        engine.step()  # makes the moments
        average.update(1)
        with Operations() as seen:
            engine.set_lr(0.5)
            norm = engine.step()
            average.update(2)
            meter.add(torch.empty(3, device=GPU))
            meter.close(norm, 0.1)
        assert norm.device.type == "cuda" and seen.copies == []
        assert seen.counts["_fused_adamw_.default"] == len([group for group in groups.values() if group])
