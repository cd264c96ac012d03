"""What a worker decides by itself."""

from types import SimpleNamespace

import pytest
import torch
from support.training import train_config

from pm.train.run import workers
from pm.train.run.workers import loading_processes, samples_config


@pytest.mark.parametrize(
    ("wanted", "device", "cpus", "local", "expected"),
    [
        (None, "cpu", 64, 2, 0),  # whoever loads ahead would take cores from the training
        (None, "cuda", 64, 8, 4),
        (None, "cuda", 16, 4, 3),  # one core for the training
        (None, "cuda", 8, 8, 0),  # a thread
        (2, "cpu", 2, 1, 2),
        (0, "cuda", 64, 1, 0),
    ],
)
def test_processes_that_load(monkeypatch, wanted, device, cpus, local, expected):
    monkeypatch.setattr(workers, "available_cpus", lambda: cpus)
    context = SimpleNamespace(device=torch.device(device), local_workers=local)
    assert loading_processes(wanted, context) == expected


def test_samples_are_drawn_as_the_training_says():
    config = samples_config(train_config(null_text=0.25, min_references=2))
    assert (config.null_text, config.min_references, config.max_references) == (0.25, 2, 4)
