"""The training loop on a model of one layer: interrupted, stopped, and with numbers that are none."""

import pytest
from support.loops import Batches, assert_same, make_trainer, resume

from pm.errors import ConfigError
from pm.train.callbacks.base import Callback
from pm.train.callbacks.metrics import MetricsFile, read_metrics
from pm.train.checkpoint import newest_complete
from pm.train.loop import warmup
from pm.train.run.summary import CHECKPOINTS, STOP


@pytest.mark.parametrize("interrupted_at", [3, 5])
def test_interrupted_equals_uninterrupted(tmp_path, interrupted_at):
    straight = make_trainer(tmp_path / "straight", [MetricsFile(tmp_path / "straight")])
    straight.fit()

    class Crash(Callback):
        def on_step(self, step):
            if step == interrupted_at:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path / "cut", [MetricsFile(tmp_path / "cut"), Crash()], checkpoint_every=2).fit()
    trainer = resume(tmp_path / "cut", [MetricsFile(tmp_path / "cut")], checkpoint_every=2)
    assert trainer.step == interrupted_at - 1  # the last even step
    trainer.fit()
    assert_same(trainer.engine.gather_trainable(), straight.engine.gather_trainable())
    assert_same(trainer.ema.gather(), straight.ema.gather())
    for key in ("exp_avg", "exp_avg_sq"):
        assert_same(trainer.engine.state_dict().moments[key], straight.engine.state_dict().moments[key])
    lines = [read_metrics(tmp_path / run / "metrics.jsonl") for run in ("straight", "cut")]
    assert [m["step"] for m in lines[1]] == [1, 2, 3, 4, 5, 6]  # no line twice
    assert [m["loss"] for m in lines[0]] == [m["loss"] for m in lines[1]]


def test_more_steps_go_on_from_the_last_checkpoint(tmp_path):
    make_trainer(tmp_path / "a", steps=3, checkpoint_every=None).fit()
    longer = resume(tmp_path / "a", steps=6, checkpoint_every=None)
    longer.fit()
    straight = make_trainer(tmp_path / "b")
    straight.fit()
    assert_same(longer.engine.gather_trainable(), straight.engine.gather_trainable())


def test_a_loss_that_is_no_number_stops_the_run_before_it_is_saved(tmp_path):
    class Bad(Batches):
        def __next__(self):
            batch = super().__next__()
            if self.consumed == 5 * self.size:
                batch.mean[0] = float("nan")
            return batch

    trainer = make_trainer(tmp_path, batches=Bad(), log_every=100, checkpoint_every=3)
    with pytest.raises(ConfigError, match="loss is nan at step 6; lower train.lr_lora"):
        trainer.fit()
    assert newest_complete(tmp_path / CHECKPOINTS).name == "step-00000003"


def test_a_run_that_is_asked_to_stop_saves_and_goes_on_as_if_it_had_not(tmp_path, monkeypatch):
    class Ask(Callback):
        def on_step(self, step):
            if step == 4:
                (tmp_path / "cut" / STOP).touch()

    straight = make_trainer(tmp_path / "straight", [MetricsFile(tmp_path / "straight")])
    straight.fit()
    trainer = make_trainer(tmp_path / "cut", [MetricsFile(tmp_path / "cut"), Ask()], checkpoint_every=None)
    monkeypatch.setattr("pm.train.run.context._LOOK_SECONDS", 0.0)
    trainer.fit()
    assert trainer.stopped and trainer.step == 5
    assert newest_complete(tmp_path / "cut" / CHECKPOINTS).name == "step-00000005"
    (tmp_path / "cut" / STOP).unlink()
    again = resume(tmp_path / "cut", [MetricsFile(tmp_path / "cut")])
    again.fit()
    assert not again.stopped
    assert_same(again.engine.gather_trainable(), straight.engine.gather_trainable())
    assert_same(again.ema.gather(), straight.ema.gather())
    assert [m["loss"] for m in read_metrics(tmp_path / "cut/metrics.jsonl")] == [
        m["loss"] for m in read_metrics(tmp_path / "straight/metrics.jsonl")
    ]


def test_a_stop_in_the_last_step_finishes_the_run(tmp_path):
    trainer = make_trainer(tmp_path, steps=1)
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / STOP).touch()
    trainer.fit()
    assert trainer.step == 1 and not trainer.stopped


def test_a_gradient_that_is_no_number_stops_the_run_before_it_is_saved(tmp_path):
    trainer = make_trainer(tmp_path, checkpoint_every=3, log_every=100)
    engine, backward = trainer.engine, trainer.engine.backward

    def poisoned(loss):
        backward(loss)
        if trainer.step == 5:
            engine._grads[0] = float("inf")

    engine.backward = poisoned
    with pytest.raises(ConfigError, match="gradient norm is inf at step 6"):
        trainer.fit()
    assert newest_complete(tmp_path / CHECKPOINTS).name == "step-00000003"


def test_warmup_is_linear_and_then_constant():
    assert [warmup(step, 4) for step in (0, 1, 3, 4, 100)] == [0.25, 0.5, 1, 1, 1]
    assert warmup(0, 0) == 1
