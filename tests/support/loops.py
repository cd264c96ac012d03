"""A trainer of a model of one layer, without Ray."""

import torch

from pm.train.checkpoint import read_checkpoint
from pm.train.diffusion import noise_schedule
from pm.train.engine.base import load_weights
from pm.train.engine.ddp import DdpChoice
from pm.train.loop import Trainer
from pm.train.losses.min_snr import MinSnr
from pm.train.run.context import LocalContext
from pm.train.step import Precision, TrainStep
from support.training import TinyModel, random_batch, train_config

DDP = DdpChoice("ddp")


class Batches:
    """Random batches with the loader's interface."""

    def __init__(self, size=4):
        self.size, self.consumed = size, 0

    def __next__(self):
        self.consumed += self.size
        return random_batch(self.size, seed=self.consumed)

    def state_dict(self):
        return {"consumed": self.consumed}

    def load_state_dict(self, state):
        self.consumed = state["consumed"]


def make_step():
    return TrainStep(TinyModel(), noise_schedule({}), 0.5, Precision(torch.float32), MinSnr("min_snr", 5.0))


def make_trainer(run_dir, callbacks=(), saved=None, batches=None, profiled=False, **over):
    config = train_config(**({"ema_decay": 0.9} | over))
    step = make_step()
    if saved is not None:
        load_weights(step, saved.engine.weights)
    engine = DDP.build(step, step.photomaker.parameter_groups(), config, torch.device("cpu"))
    context = LocalContext(run_dir, num_to_keep=config.num_to_keep)
    batches = batches or Batches(config.micro_batch_size or 4)
    return Trainer(config, context, engine, batches, callbacks, profiled=profiled)


def resume(run_dir, callbacks=(), **over):
    folder = LocalContext(run_dir).restore()
    saved = read_checkpoint(folder)
    trainer = make_trainer(run_dir, callbacks, saved, **over)
    trainer.restore(saved, folder)
    return trainer


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
