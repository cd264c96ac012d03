"""ZeRO on one worker against the plain engine: the same updates and state. Several workers: `tests/distributed`."""

import pytest
import torch
from support.loops import DDP, make_step
from support.training import random_batch, train_config
from support.zero import CPU, zero_engine

pytest.importorskip("deepspeed")
SETTINGS = {"grad_clip": 0.01, "weight_decay": 0.1}


def train(engine, seeds):
    norms = []
    for seed in seeds:
        engine.backward(engine.forward(random_batch(4, seed=seed)).mean())
        norms.append(float(engine.step()))
    return norms


@pytest.fixture(scope="module")
def plain():
    step, config = make_step(), train_config(**SETTINGS)
    trained = step.photomaker.trained
    engine = DDP.build(step, {"lora": [trained.weight], "id_encoder": [trained.bias]}, config, CPU)
    return train(engine, range(3)), engine.state_dict()


def assert_close(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_updates_and_state_are_the_plain_engines_across_a_restart(group, plain, stage):
    norms, wanted = plain
    first = zero_engine(stage, **SETTINGS)
    found = train(first, range(2))
    middle = first.state_dict()
    second = zero_engine(stage, middle.weights, **SETTINGS)
    second.load_moments(middle)
    found += train(second, [2])
    state = second.state_dict()
    assert found == pytest.approx(norms, rel=1e-4) and min(norms) > 0.01  # or nothing was clipped
    assert state.updates == wanted.updates == 3 and second.splits_weights == (stage == 3)
    assert_close(state.weights, wanted.weights)
    for key, moments in wanted.moments.items():
        assert_close(state.moments[key], moments)
