"""What a checkpoint holds, and which one is refused."""

import json

import pytest
import torch
from support.loops import make_trainer

from pm.errors import CheckpointError, ConfigError
from pm.train.callbacks.metrics import MetricsFile, read_metrics
from pm.train.checkpoint import (
    best_complete,
    check_origin,
    is_complete,
    newest_complete,
    read_checkpoint,
    restore_rng,
    write_rng,
)
from pm.train.run.summary import CHECKPOINTS


def test_checkpoints_hold_no_frozen_weight_and_old_ones_go(tmp_path):
    make_trainer(tmp_path, checkpoint_every=1, num_to_keep=2).fit()
    folders = sorted((tmp_path / CHECKPOINTS).iterdir())
    assert [f.name for f in folders] == ["step-00000005", "step-00000006"]
    saved = read_checkpoint(folders[-1])
    assert set(saved.engine.weights) == {"photomaker.trained.weight", "photomaker.trained.bias"} == set(saved.ema)
    assert saved.position.step == saved.position.updates == 6 and saved.position.consumed == 24


def test_damaged_checkpoints_are_named_and_passed_over(tmp_path):
    make_trainer(tmp_path, checkpoint_every=3, num_to_keep=None).fit()
    root = tmp_path / CHECKPOINTS
    assert newest_complete(root).name == "step-00000006"
    tensors = root / "step-00000006" / "state.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-10])
    assert not is_complete(root / "step-00000006") and newest_complete(root).name == "step-00000003"
    with pytest.raises(CheckpointError, match="step-00000006 cannot be read"):
        read_checkpoint(root / "step-00000006")


def test_random_generators_come_back(tmp_path):
    import random

    import numpy as np

    torch.manual_seed(1), np.random.seed(2), random.seed(3)
    draws = lambda: [torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss(0, 1)]  # noqa: E731
    draws()
    write_rng(tmp_path, 0)
    expected = draws()
    draws()
    assert restore_rng(tmp_path, 0) and draws() == expected
    assert not restore_rng(tmp_path, 1)  # saved by fewer workers


def test_another_base_or_dataset_is_refused(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer._provenance = {"base": "b1", "dataset": "d1", "project": "1.0"}
    trainer.fit()
    folder = newest_complete(tmp_path / CHECKPOINTS)
    then = read_checkpoint(folder).position.provenance
    check_origin(folder, then, {"base": "b1", "dataset": "d1", "project": "2.0"})
    with pytest.raises(
        CheckpointError,
        match="of version 1.0 was made with dataset d1, this run has d2 .*forget",
    ):
        check_origin(folder, then, {"base": "b1", "dataset": "d2", "project": "2.0"})
    with pytest.raises(CheckpointError, match="was made with base model b1, this run has b2"):
        check_origin(folder, then, {"base": "b2", "dataset": "d1", "project": "2.0"})


def test_a_checkpoint_of_another_format_names_the_way_out(tmp_path):
    make_trainer(tmp_path).fit()
    folder = newest_complete(tmp_path / CHECKPOINTS)
    meta = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(meta | {"version": 1}))
    with pytest.raises(CheckpointError, match="has format 1, this version reads 3; use the version that wrote"):
        read_checkpoint(folder)


def test_the_best_checkpoint_is_found_by_the_runs_metric(tmp_path):
    trainer = make_trainer(tmp_path, checkpoint_every=1, num_to_keep=None, best_metric="loss")
    trainer._provenance = {"config": {"train": {"best_metric": "loss", "best_mode": "min"}}}
    trainer.callbacks.append(MetricsFile(tmp_path))
    trainer.fit()
    losses = {m["step"]: m["loss"] for m in read_metrics(tmp_path / "metrics.jsonl")}
    best = min(losses, key=losses.get)
    assert best_complete(tmp_path / CHECKPOINTS).name == f"step-{best:08d}"
    wrong = make_trainer(tmp_path / "other", best_metric="fid", checkpoint_every=None)
    with pytest.raises(ConfigError, match="best_metric=fid is not measured; use one of .*loss"):
        wrong.fit()
    assert wrong.step == 1  # at the first log line, not at the first checkpoint
