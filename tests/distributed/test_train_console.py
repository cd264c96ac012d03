"""What the user sees: the progress bar, the log lines, and where the cells of a sweep go."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pm.train.callbacks.progress import PROGRESS, Progress
from pm.train.run.console import _Bar, _Lines, watch

ROOT = Path(__file__).resolve().parents[2]
STATES = [
    {"phase": "loading the base model"},
    {"phase": "training", "step": 2, "start": 2, "steps": 10},
    {"phase": "training", "step": 6, "start": 2, "steps": 10, "loss": 0.123456, "samples_per_s": 12.34},
    {"phase": "training", "step": 10, "start": 2, "steps": 10, "loss": 0.1, "samples_per_s": 12.0, "pictures": "p.png"},
]


def shown(view, stream):
    for state in STATES:
        view.show(state)
    view.close()
    return stream.getvalue()


def test_the_bar_shows_loss_speed_and_pictures():
    stream = io.StringIO()
    text = shown(_Bar("run", stream), stream)
    assert "run: loading the base model ..." in text
    assert " 6/10 [" in text and "loss 0.1235, 12.3 samples/s" in text
    assert "100%" in text and "step 10: p.png" in text


def test_log_lines_have_no_control_characters():
    stream = io.StringIO()
    lines = shown(_Lines("run", stream, every_seconds=0), stream).splitlines()
    assert lines[0] == "run: loading the base model ..."
    assert lines[1].startswith("run: step 6/10, loss 0.1235, 12.3 samples/s, 0:0")
    assert lines[2] == "run: step 10/10, loss 0.1000, 12.0 samples/s"
    assert len(lines) == 3 and "\r" not in stream.getvalue()


@pytest.mark.parametrize("view", [_Bar, lambda name, stream: _Lines(name, stream, every_seconds=0)])
def test_a_run_whose_workers_were_lost_is_followed_again(view):
    stream = io.StringIO()
    view = view("run", stream)
    for state in (*STATES[:2], STATES[2] | {"note": "no network", "pictures": "p.png"}):
        view.show(state)
    for state in ({"phase": "loading the base model"}, STATES[1] | {"start": 4, "step": 4}, STATES[2] | {"step": 5}):
        view.show(state)
    view.close()
    text = stream.getvalue()
    assert text.count("run: loading the base model ...") == 1
    assert text.index("6/10") < text.index("run: started again: loading the base model ...") < text.index("5/10")


def test_watching_follows_the_workers_file(tmp_path):
    stream = io.StringIO()
    with watch(tmp_path, "run", "starting 2 workers", stream):
        progress = Progress(tmp_path, every_seconds=0)
        progress.phase("loading the base model")
        for _ in range(100):
            if "loading" in stream.getvalue():
                break
            time.sleep(0.05)
        progress.on_start(0, 2)
        progress.on_step(2)
    assert "run: step 2/2" in stream.getvalue()  # the last state is shown even when it came just before the end
    assert not (tmp_path / PROGRESS).exists()


@pytest.mark.parametrize(
    ("arguments", "folders"),
    [
        (["name=one"], ["runs/one"]),
        (
            ["-m", "name=abl", "compose=average,stacked", "seed=1,2"],
            [f"runs/abl/compose-{c}_seed-{s}" for c in ("average", "stacked") for s in (1, 2)],
        ),
    ],
)
def test_each_cell_of_a_sweep_is_a_run_of_its_own(tmp_path, arguments, folders):
    program = (
        "import json\n"
        "import pm.ray_env, pm.train.run.launch\n"
        "pm.ray_env.ray_init = lambda **_: None\n"
        "def launch(config, run_dir, settings, storage):\n"
        "    print(json.dumps([str(run_dir), config.adapter.compose.name, config.dataset, config.seed]))\n"
        "pm.train.run.launch.launch = launch\n"
        "from pipelines import train; train.main()\n"
    )
    command = [sys.executable, "-c", program, *arguments, "data=some/data"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    cells = [
        json.loads(line)
        for line in done.stdout.splitlines()
        if line.startswith("[") and line.endswith("]") and line.count('"') >= 6
    ]
    assert [cell[0] for cell in cells] == folders
    for run_dir, compose, dataset, seed in cells:
        assert dataset == "some/data"
        if "compose" in run_dir:
            assert run_dir.endswith(f"compose-{compose}_seed-{seed}")
