"""Moments can be read and written before the first step, in every group of parameters."""

import pytest
import torch
from support.zero import zero_engine

pytest.importorskip("deepspeed")


def test_moments_of_all_groups_are_within_reach_before_the_first_step(group):
    engine = zero_engine(stage=2)
    state = engine.state_dict()
    written = {name: torch.full_like(value, 0.25) for name, value in state.weights.items()}
    assert len(written) == 2  # of two groups
    state.updates, state.moments = 3, {"exp_avg": written, "exp_avg_sq": written}
    engine.load_moments(state)
    again = engine.state_dict()
    assert again.updates == 3
    for moments in again.moments.values():
        assert moments.keys() == written.keys() and all((value == 0.25).all() for value in moments.values())
