"""Settings of a run that contradict each other, and ranges of single ones."""

import pytest
from support.training import run_config

from pm.errors import ConfigError


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"workers__num": 0}, "workers.num=0 must be at least 1"),
        ({"workers__loaders": -1}, "workers.loaders=-1 must be at least 0"),
        ({"workers__num": 2, "workers__min": 3}, "workers.min=3 is above workers.num=2; lower it"),
        ({"workers__max_failures": -2}, "workers.max_failures=-2 must be at least -1"),
        ({"validation__identities": 0}, "validation.identities=0 must be at least 1"),
        ({"dataset": "???"}, "data is not set; give the folder"),
        ({"tracker": {"name": "mlflow"}}, "tracker='mlflow' is not one of none, tensorboard, wandb"),
    ],
)
def test_bad_settings(over, message):
    with pytest.raises(ConfigError) as error:
        run_config(over.pop("dataset", "data"), "base", **over)
    assert message in str(error.value)


def test_a_bare_name_is_a_part_without_settings():
    config = run_config("data", "base", engine="ddp", tracker="none", train__loss_weights="debiased")
    assert (config.engine.name, config.tracker.name, config.train.loss_weights.name) == ("ddp", "none", "debiased")
