"""What a worker does when its GPU runs out of memory."""

import pytest
from support.training import run_config

from pm.errors import ConfigError
from pm.train.run.context import LocalContext
from pm.train.run.memory import OutOfMemory


def judged(run_dir, resumed_at, **over):
    memory = OutOfMemory(run_config("data", "base", **over), LocalContext(run_dir))
    memory.resumed_at = resumed_at
    return memory.judged(RuntimeError("CUDA out of memory"))


def test_an_elastic_restart_is_tried_once_more_from_each_checkpoint(tmp_path):
    elastic = {"workers__num": 4, "workers__min": 2}
    assert isinstance(judged(tmp_path, 3, **elastic), RuntimeError)  # Ray Train starts the workers again
    assert isinstance(judged(tmp_path, 3, **elastic), ConfigError)  # it was not the workers before
    assert isinstance(judged(tmp_path, 6, **elastic), RuntimeError)


@pytest.mark.parametrize(("resumed_at", "elastic"), [(None, True), (3, False)])
def test_settings_that_ask_for_too_much_end_the_run(tmp_path, resumed_at, elastic):
    error = judged(tmp_path, resumed_at, **({"workers__num": 4, "workers__min": 2} if elastic else {}))
    assert isinstance(error, ConfigError) and "4 samples a forward pass; lower train.micro_batch_size" in str(error)
