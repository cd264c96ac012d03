"""When a run is finished."""

import dataclasses

from support.training import run_config, train_config

from pm.train.run.summary import is_finished, write_summary


def test_a_run_is_finished_when_it_has_its_steps_and_its_adapter(tmp_path):
    config = run_config("data", "base")
    assert not is_finished(tmp_path, config)
    write_summary(tmp_path, config, {"loss": 1.0}, 3.0)
    assert not is_finished(tmp_path, config)
    (tmp_path / "adapter.safetensors").touch()
    assert is_finished(tmp_path, config)
    longer = dataclasses.replace(config, train=train_config(steps=7))
    assert not is_finished(tmp_path, longer)
