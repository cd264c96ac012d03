"""The pre-training loop: interrupted equals uninterrupted, bit for bit."""

import pytest
import torch
from torch import nn

from pm.toon.pretrain.fit import fit


class Interrupted(Exception):
    pass


def run(work, stop_at=None, monkeypatch=None):
    torch.manual_seed(0)
    model = nn.Linear(4, 1)

    def loss_of(step, generator):
        if step == stop_at:
            raise Interrupted
        x = torch.randn(8, 4, generator=generator)
        return {"loss": (model(x) - x.sum(1, keepdim=True)).square().mean()}

    fit("m", nn.ModuleDict({"m": model}), loss_of, steps=20, lr=0.1, work=work, seed=3, ema=0.9)
    return {k: v.clone() for k, v in model.state_dict().items()}


def test_interrupted_equals_uninterrupted(tmp_path, monkeypatch):
    monkeypatch.setattr("pm.toon.pretrain.fit.SAVE_SECONDS", 0.0)
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    whole = run(tmp_path / "a")
    with pytest.raises(Interrupted):
        run(tmp_path / "b", stop_at=11)
    resumed = run(tmp_path / "b")
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_the_weights_of_a_finished_stage_are_all_that_a_later_run_needs(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    whole = run(tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["m.json", "m.safetensors"]
    for name in ("m.json", "m.safetensors"):
        (tmp_path / "b" / name).write_bytes((tmp_path / "a" / name).read_bytes())
    again = run(tmp_path / "b", stop_at=0)  # not a step is made
    assert all(torch.equal(whole[k], again[k]) for k in whole)
