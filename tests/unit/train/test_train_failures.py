"""What goes wrong in a run, on a model of one layer and without Ray: stops, full disks, uneven splits, other data."""

import gzip
import json
import resource
import time

import pytest
import torch
from support.loops import Batches, assert_same, make_trainer, resume
from support.training import train_config

from pm.data.loading.loader import Loader
from pm.errors import CheckpointError, ConfigError
from pm.train.callbacks.base import Callback
from pm.train.callbacks.meter import PARTS
from pm.train.callbacks.metrics import MetricsFile, read_metrics
from pm.train.callbacks.profiling import Profile
from pm.train.checkpoint import best_complete, check_origin, newest_complete, read_checkpoint
from pm.train.run.summary import CHECKPOINTS, STOP


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


def test_a_full_disk_names_the_checkpoint_and_leaves_the_one_before(tmp_path):
    trainer = make_trainer(tmp_path / "run", checkpoint_every=3)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Fill(Callback):
        def on_step(self, step):
            if step == 6:
                resource.setrlimit(resource.RLIMIT_FSIZE, (256, limits[1]))

    trainer.callbacks.append(Fill())
    try:
        with pytest.raises(CheckpointError, match=r"step-00000006 could not be written .* goes on from step-00000003"):
            trainer.fit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [f.name for f in (tmp_path / "run" / CHECKPOINTS).iterdir()] == ["step-00000003"]  # nothing half-written
    again = resume(tmp_path / "run")
    again.fit()
    straight = make_trainer(tmp_path / "straight")
    straight.fit()
    assert_same(again.engine.gather_trainable(), straight.engine.gather_trainable())


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


@pytest.mark.parametrize(
    ("batch", "micro", "workers"),
    [(8, None, 2), (8, None, 3), (48, None, 7), (48, 2, 5), (7, 2, 5), (5, 1, 5), (3, 4, 2)],
)
def test_an_uneven_split_gives_the_mean_over_the_whole_batch(batch, micro, workers):
    config = train_config(batch_size=batch, micro_batch_size=micro)
    losses, seen, total = torch.rand(batch, dtype=torch.float64), [], 0.0
    passes = config.accumulation(workers)
    for rank in range(workers):
        shares = config.shares(rank, workers)
        assert len(shares) == passes
        for i, (count, factor) in enumerate(shares):
            start = i * workers * config.micro_batch(workers)
            mine = range(start + rank, min(start + workers * config.micro_batch(workers), batch), workers)
            assert count == len(mine)
            seen += mine
            if count:
                total += losses[list(mine)].mean() * factor
    assert sorted(seen) == list(range(batch))
    torch.testing.assert_close(total / (workers * passes), losses.mean())
    if batch % (workers * config.micro_batch(workers)) == 0:
        assert all(factor == 1.0 for rank in range(workers) for _, factor in config.shares(rank, workers))


@pytest.mark.parametrize(("micro", "workers"), [(None, 3), (1, 3), (2, 3), (None, 5), (2, 4)])
def test_no_sample_is_lost_or_repeated_when_workers_come_and_go(tiny_dataset_samples, micro, workers):
    """One epoch and a bit: a third with 2 workers, a third with `workers`, the rest with 1."""
    config = train_config(batch_size=8, micro_batch_size=micro)
    seen, consumed = [], 0
    for count, updates in ((2, 2), (workers, 2), (1, 2)):
        loaders = [
            Loader(
                tiny_dataset_samples,
                config.micro_batch(count),
                seed=3,
                rank=rank,
                world_size=count,
                update=8,
            )
            for rank in range(count)
        ]
        for loader in loaders:
            loader.load_state_dict({"consumed": consumed})
        for _ in range(updates):
            for i in range(config.accumulation(count)):
                for rank, loader in enumerate(loaders):
                    mine, _ = config.shares(rank, count)[i]
                    batch = next(loader)
                    assert len(batch) == max(1, mine)
                    seen += batch.seeds[:mine].tolist()
        states = {loader.state_dict()["consumed"] for loader in loaders}
        assert states == {consumed + 8 * updates}
        consumed = states.pop()
        for loader in loaders:
            loader.close()
    size = len(tiny_dataset_samples)
    assert sorted(seen) == sorted(tiny_dataset_samples.sample(3, p // size, p % size).seed for p in range(48))


@pytest.fixture
def tiny_dataset_samples(tiny_dataset):
    from pm.data.dataset.reader import IdentityDataset
    from pm.train.run.workers import samples_config

    return IdentityDataset(tiny_dataset, samples_config(train_config()))


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
    with pytest.raises(CheckpointError, match="has format 1, this version reads 3; go on with the version that wrote"):
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


@pytest.mark.parametrize("steps", [2, 8])
def test_a_profile_names_the_parts_of_a_step(tmp_path, steps):
    trainer = make_trainer(tmp_path, [Profile(tmp_path)], steps=steps, profiled=True)
    trainer.fit()
    for callback in trainer.callbacks:
        callback.on_end({})
    events = json.loads(gzip.decompress((tmp_path / "profile/trace.json.gz").read_bytes()))["traceEvents"]
    names = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    assert {"data", "forward", "backward", "optimizer"} <= set(names)
    assert names.count("forward") == (3 if steps == 8 else 1)
    assert "forward" in (tmp_path / "profile/table.txt").read_text()
