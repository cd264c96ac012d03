"""What is refused before any worker starts, and what is said of a run that is finished."""

import dataclasses
import json

import pytest
from support.loops import make_trainer
from support.training import run_config

from pm.errors import CheckpointError, ConfigError, DataError, WriteError
from pm.train.checkpoint import newest_complete
from pm.train.run import checks
from pm.train.run.launch import _finished
from pm.train.run.resume import Change
from pm.train.run.summary import CHECKPOINTS, write_summary


def test_a_batch_is_split_over_the_workers_or_names_one_that_can_be():
    config = run_config("data", "base", train__batch_size=8)
    checks.check_batch(config, 4)
    with pytest.raises(ConfigError, match="batch_size=8 is not divisible by 3 workers"):
        checks.check_batch(config, 3)
    elastic = run_config("data", "base", train__batch_size=8, workers__num=9, workers__min=2)
    checks.check_batch(elastic, 3)  # unevenly
    with pytest.raises(ConfigError, match="batch_size=8 is less than workers.num=9"):
        checks.check_batch(elastic, 9)


def test_a_dataset_that_is_not_there_is_named_in_full(tiny_base, tmp_path):
    with pytest.raises(DataError, match=rf"dataset {tmp_path}/nowhere does not exist"):
        checks.check_dataset(run_config(tmp_path / "nowhere", tiny_base))


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="storage_path="):
        checks.check_writable(tmp_path / "file" / "run")


def test_photos_that_were_removed_since_are_noticed(tiny_dataset, tiny_base, tmp_path):
    config = run_config(tiny_dataset, tiny_base)
    dataset = checks.check_dataset(config)
    assert not checks.dataset_changed(tmp_path, dataset)  # nothing tells
    write_summary(tmp_path, config, {"loss": 0.5}, 3.0, dataset.fingerprint())
    assert not checks.dataset_changed(tmp_path, dataset)
    assert "\n" not in _finished(tmp_path, config, dataset, [Change("train.log_every", 1, 2)])
    dataset.photos = [*dataset.photos[:-1], "another.png"]
    assert checks.dataset_changed(tmp_path, dataset)
    told = _finished(tmp_path, config, dataset, [Change("train.lr_lora", 0.1, 0.2)])
    assert f"already finished (6 steps in 3.0 s, loss 0.5000): {tmp_path}/adapter.safetensors" in told
    assert "not applied, as no step is left: train.lr_lora=0.2 (was 0.1); raise train.steps" in told
    assert f"dataset {tiny_dataset} has changed since" in told and "choose another name=" in told


def test_a_checkpoint_of_other_photos_is_refused_in_the_driver(tiny_dataset, tiny_base, tmp_path):
    config = run_config(tiny_dataset, tiny_base)
    dataset = checks.check_dataset(config)
    checks.check_checkpoint(tmp_path, config, dataset)
    trainer = make_trainer(tmp_path, steps=1)
    now = {"base": dataset.meta["base"]["fingerprint"], "dataset": dataset.fingerprint()}
    trainer._provenance = now
    trainer.fit()
    checks.check_checkpoint(tmp_path, config, dataset)
    # A summary of version 0.1 has no fingerprint; the checkpoint has.
    write_summary(tmp_path, dataclasses.replace(config), {}, 1.0)
    assert not checks.dataset_changed(tmp_path, dataset)
    state = newest_complete(tmp_path / CHECKPOINTS) / "state.json"
    meta = json.loads(state.read_text())
    state.write_text(json.dumps(meta | {"provenance": now | {"dataset": "0" * 16}}))
    assert checks.dataset_changed(tmp_path, dataset)
    with pytest.raises(CheckpointError, match="was made with dataset 0000000000000000, this run has"):
        checks.check_checkpoint(tmp_path, config, dataset)
