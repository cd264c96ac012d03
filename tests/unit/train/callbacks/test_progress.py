"""The file that the driver reads."""

import json

from support.loops import make_trainer

from pm.train.callbacks.progress import Progress


def test_progress_file_says_where_the_run_is(tmp_path):
    progress = Progress(tmp_path, every_seconds=0)
    progress.phase("loading the base model")
    read = lambda: json.loads((tmp_path / ".progress.json").read_text())  # noqa: E731
    assert read() == {"phase": "loading the base model"}
    make_trainer(tmp_path, [progress]).fit()
    state = read()
    assert (state["step"], state["steps"], state["start"]) == (6, 6, 0) and state["loss"] > 0
