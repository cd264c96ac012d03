"""What every engine shares."""

import pytest
import torch
from support.loops import assert_same, make_step, make_trainer
from support.training import train_config

from pm.errors import CheckpointError
from pm.train.checkpoint import read_checkpoint
from pm.train.engine.base import (
    MOMENTS,
    fresh_moments,
    load_weights,
    make_optimizer,
    named_trainable,
    on_cpu,
    scale_lr,
    weights_replaced,
)
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


def test_groups_keep_their_own_rate_through_every_factor():
    groups = {"lora": [torch.nn.Parameter(torch.ones(2))], "id_encoder": [torch.nn.Parameter(torch.ones(3))]}
    config = train_config(lr_lora=0.4, lr_id_encoder=0.1)
    optimizer = make_optimizer(groups | {"none": []}, config, torch.device("cpu"))
    for factor in (0.5, 0.0, 2.0):
        scale_lr(optimizer, factor)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.4 * factor, 0.1 * factor])


def test_fresh_moments_are_the_state_that_adamw_starts_from():
    parameter, other = (torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    one, two = (torch.optim.AdamW([p], fused=True) for p in (parameter, other))
    two.state[other] = fresh_moments(other, two, updates=0)
    assert set(two.state[other]) == {"step", *MOMENTS}
    for optimizer, p in ((one, parameter), (two, other)):
        p.grad = torch.tensor([0.5, 3.0])
        optimizer.step()
    assert torch.equal(parameter, other) and two.state[other]["step"] == 1


def test_a_copy_on_the_cpu_is_a_copy_in_float32():
    own = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    copy = on_cpu(own)
    copy.add_(1)
    assert copy.dtype == torch.float32 and not copy.requires_grad and own.tolist() == [1, 1]
