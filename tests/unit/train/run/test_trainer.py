"""The work-around on Ray's trainer: needed while Ray starts these helpers, possible while the method is there."""

import pytest

from pm.train.run.trainer import CLEANER, DATASETS, trainer_class


def names(trainer_class_):
    trainer = trainer_class_(lambda: None)
    return {type(callback).__name__ for callback in trainer._create_default_callbacks()}


def test_ray_still_starts_both_helpers():
    """If this fails, Ray has changed: see whether `pm/train/run/trainer.py` can go."""
    from ray.train.torch import TorchTrainer

    assert {DATASETS, CLEANER} <= names(TorchTrainer)


@pytest.mark.parametrize("address", ["", "127.0.0.1:6379"])
def test_ours_starts_neither_where_this_process_owns_ray(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert names(trainer_class()) & {DATASETS, CLEANER} == ({CLEANER} if address else set())
