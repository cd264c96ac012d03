"""What the user sees: the progress bar and the log lines."""

import io
import time

import pytest

from pm.train.callbacks.progress import PROGRESS, Progress
from pm.train.run.console import _Bar, _Lines, watch

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
