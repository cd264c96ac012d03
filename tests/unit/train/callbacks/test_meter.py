"""What is measured between two log lines."""

import time

import pytest
import torch
from support.loops import Batches, make_trainer

from pm.train.callbacks.meter import PARTS
from pm.train.callbacks.metrics import MetricsFile, read_metrics


def test_metrics_say_where_the_time_goes(tmp_path):
    class Slow(Batches):
        def __next__(self):
            time.sleep(0.02)
            return super().__next__()

    trainer = make_trainer(tmp_path, [MetricsFile(tmp_path)], batches=Slow(), log_every=2, checkpoint_every=2)
    trainer.fit()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [2, 4, 6]
    for line in lines:
        assert all(line[f"{part}_s"] >= 0 for part in PARTS) and line["data_s"] >= 0.02
        assert line["memory_gib"] > 0 and line["grad_norm"] > 0
    assert lines[1]["checkpoint_s"] > 0 == lines[0]["checkpoint_s"]
    weights, average = trainer.engine.gather_trainable(), trainer.ema.gather()
    flat = lambda values: torch.cat([values[name].flatten().double() for name in sorted(values)])  # noqa: E731
    drift = (flat(average) - flat(weights)).norm() / flat(weights).norm()
    assert lines[-1]["ema_drift"] == pytest.approx(float(drift), rel=1e-6) and drift > 0
