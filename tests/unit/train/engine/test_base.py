"""What every engine shares."""

import pytest
import torch
from support.loops import assert_same, make_step, make_trainer

from pm.errors import CheckpointError
from pm.train.checkpoint import read_checkpoint
from pm.train.engine.base import load_weights, named_trainable, weights_replaced
from pm.train.run.context import LocalContext


def test_weights_are_replaced_for_a_while_only(tmp_path):
    trainer = make_trainer(tmp_path)
    own = trainer.engine.gather_trainable()
    other = {name: value + 1 for name, value in own.items()}
    with pytest.raises(RuntimeError), weights_replaced(trainer.engine, other):
        assert_same({n: p.data for n, p in named_trainable(trainer.engine.module).items()}, other)
        raise RuntimeError
    assert_same(trainer.engine.gather_trainable(), own)


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    make_trainer(tmp_path).fit()
    weights = read_checkpoint(LocalContext(tmp_path).restore()).engine.weights
    weights["photomaker.trained.bias"] = torch.zeros(7)
    with pytest.raises(CheckpointError, match="1 parameters differ, e.g. 'photomaker.trained.bias'"):
        load_weights(make_step(), weights)
