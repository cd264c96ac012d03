"""Runs as their folders tell: status, curves, differences; from a folder and from a URI alike."""

import json
import os
import time

import pytest
import yaml

from pm.catalog.root import Root
from pm.catalog.runs import curves, described, details, differences, runs
from pm.errors import DataError
from pm.train.callbacks.metrics import MetricsFile
from pm.train.callbacks.progress import Progress


def write_run(folder, steps=30, done=30, finished=True, **train):
    """A run as the trainer's own callbacks write it."""
    folder.mkdir(parents=True)
    config = {"name": folder.name, "dataset": "data/mine", "train": {"steps": steps, "lr_lora": 1e-4} | train}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    metrics, progress = MetricsFile(folder), Progress(folder)
    metrics.on_start(0, steps)
    progress.on_start(0, steps)
    for step in range(1, done + 1):
        line = {"step": step, "loss": 1 / step, "samples_per_s": 5.0}
        metrics.on_log(line)
        progress.on_step(step)
    progress.on_log({"step": done, "loss": 1 / done, "samples_per_s": 5.0})
    if finished:
        (folder / "adapter.safetensors").write_bytes(b"x")
        (folder / "summary.json").write_text(json.dumps({"steps": done, "seconds": 9.0, "metrics": {"loss": 1 / done}}))
    return folder


def age(folder, seconds):
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - seconds,) * 2)


@pytest.fixture(params=["folder", "uri"])
def place(request, tmp_path):
    root = tmp_path / "runs"
    write_run(root / "done")
    write_run(root / "sweep" / "cell-1", done=10, finished=False, lr_lora=3e-4)
    write_run(root / "lost", done=12, finished=False)
    age(root / "lost", 4000)
    age(root / "done", 5000)
    stopped = write_run(root / "stopped", done=5, finished=False)
    Progress(stopped).on_stop(5)
    age(stopped, 9000)
    (root / "sweep" / "cell-1" / "checkpoints" / "step-00000010").mkdir(parents=True)
    (root / "sweep" / "cell-1" / "checkpoints" / "step-00000010" / "metrics.jsonl").write_text("{}")
    return Root(str(root) if request.param == "folder" else root.as_uri())


def test_each_run_says_how_it_stands(place):
    found = {run["name"]: run for run in runs(place)}
    status = {name: run["status"] for name, run in found.items()}
    assert status == {"done": "finished", "sweep/cell-1": "running", "lost": "interrupted", "stopped": "stopped"}
    assert list(found)[0] == "sweep/cell-1"  # the newest first, and no checkpoint is a run
    assert found["sweep/cell-1"]["step"] == 10 and found["sweep/cell-1"]["steps"] == 30
    assert found["done"]["resume"] is None and found["done"]["adapter"] == "done/adapter.safetensors"
    assert found["lost"]["resume"].startswith("photomaker train data=data/mine name=lost")


def test_curves_go_on_where_one_has_them(place):
    whole = curves(place, "done")
    assert whole["step"] == list(range(1, 31)) and whole["loss"][1] == 0.5
    assert curves(place, "done", after=28)["step"] == [29, 30]
    with pytest.raises(DataError, match="no run 'nobody'"):
        curves(place, "nobody")


def test_a_long_curve_is_thinned_and_a_cut_line_left_out(tmp_path):
    folder = write_run(tmp_path / "long", steps=4000, done=1)
    lines = [json.dumps({"step": step, "loss": float("nan") if step == 4000 else step}) for step in range(1, 4001)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 40')
    found = curves(Root(str(tmp_path)), "long")
    assert len(found["step"]) <= 1500 and found["step"][-1] == 4000 and found["loss"][-1] is None


def test_settings_that_differ_are_named(place):
    rows = {row["setting"]: (row["first"], row["second"]) for row in differences(place, "done", "sweep/cell-1")}
    assert rows == {"name": ("done", "cell-1"), "train.lr_lora": (1e-4, 3e-4)}
    assert details(place, "done")["settings"]["train.steps"] == 30


@pytest.mark.parametrize("name", ["../x", "/etc", "a/../../x", "done/..\\x", "s3://x"])
def test_nothing_outside_is_read(place, name):
    with pytest.raises(DataError):
        described(place, name)
    with pytest.raises(DataError):
        place.read(f"{name}/config.yaml")


def test_a_link_leads_nowhere_else(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "metrics.jsonl").write_text("{}")
    root = tmp_path / "runs"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match="leads out"):
        Root(str(root)).read("link/metrics.jsonl")
