"""Weights & Biases itself: a service that is away or killed, and what a sweep leaves there."""

import json
import multiprocessing
import re
from dataclasses import replace

import psutil
import pytest
from PIL import Image
from support.evaluation import row_of, true_reading
from support.loops import make_trainer
from support.sweeps import finished

from pm.errors import PmError
from pm.evaluate.record import record
from pm.track.base import RunInfo
from pm.track.wandb import WandbChoice
from pm.train.callbacks.base import Callback
from pm.train.callbacks.metrics import MetricsFile, read_metrics
from pm.train.callbacks.tracking import Tracked
from pm.train.run.sweep import finish_sweep, read_cells, sweep_table

WANDB = WandbChoice(name="wandb", mode="offline", project="p", entity=None, run_group=None, tags=())


def test_an_outage_of_wandb_stops_no_training(tmp_path, monkeypatch):
    """A server that refuses connections at the start, then a wandb service that is killed on the way."""
    server = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "a" * 40, "WANDB_INIT_TIMEOUT": "2"}
    for key, value in server.items():
        monkeypatch.setenv(key, value)
    # In a process of its own: wandb keeps one service for a process and its children, and this one is killed.
    monkeypatch.delenv("WANDB_SERVICE", raising=False)
    process = multiprocessing.get_context("spawn").Process(target=train_through_an_outage, args=(tmp_path,))
    process.start()
    process.join(120)
    told = (tmp_path / "told.txt").read_text().splitlines()
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert "could not start in mode online" in told[0] and re.search("could not (log|finish)", told[1])
    assert list((tmp_path / "wandb").glob("offline-run-*"))


def train_through_an_outage(folder):
    class Kill(Callback):
        def on_step(self, step):
            if step == 3:
                services = psutil.Process().children(recursive=True)
                services = [process for process in services if "wandb-core" in " ".join(process.cmdline())]
                assert services
                for process in services:
                    process.kill()

    told: list[str] = []
    options = replace(WANDB, mode="online")
    tracker = Tracked(options, folder, RunInfo("run", "train", {}), told.append)
    tracker.on_end(make_trainer(folder, [MetricsFile(folder), tracker, Kill()]).fit())
    (folder / "told.txt").write_text("\n".join(told))


def test_weights_and_biases_gets_the_report_as_it_is(tmp_path):
    page = "<!doctype html><title>an evaluation</title>"
    (tmp_path / "report.html").write_text(page)
    Image.new("RGB", (8, 8)).save(tmp_path / "grid.png")
    record(WANDB, tmp_path, [row_of(true_reading, name="a")])
    (media,) = tmp_path.glob("wandb/offline-run-*/files/media")
    assert [file.read_text() for file in media.glob("html/*.html")] == [page]
    assert len(list(media.glob("images/*.png"))) == len(list(media.glob("table/*.json"))) == 1


def test_weights_and_biases_gets_the_table_in_the_sweeps_group(tmp_path, monkeypatch):
    import wandb

    finished(tmp_path, "seed-0", ["seed=0"], [9.0, 0.2])
    finished(tmp_path, "seed-1", ["seed=1"], error="the loss is NaN")
    runs = []
    init = wandb.init
    monkeypatch.setattr(wandb, "init", lambda **options: runs.append(init(**options)) or runs[-1])
    with pytest.raises(PmError):
        finish_sweep(tmp_path, "ablation", WANDB, "train")
    (run,) = runs
    assert run.group == "ablation" and run.job_type == "sweep"
    (path,) = tmp_path.glob("wandb/offline-run-*/files/media/table/*.json")
    assert json.loads(path.read_text())["data"] == sweep_table(read_cells(tmp_path))[1]
