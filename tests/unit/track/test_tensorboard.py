"""TensorBoard's own reader, on what the tracker writes."""

import importlib.util

import pytest
from PIL import Image
from support.loops import make_trainer, resume

from pm.errors import ConfigError
from pm.track.base import RunInfo, start
from pm.track.tensorboard import TensorBoardChoice
from pm.train.callbacks.tracking import Tracked

CHOICE = TensorBoardChoice("tensorboard", "tensorboard")


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0, "images": 0})
    return events.Reload()


def test_metrics_pictures_settings_and_tables_are_what_was_given(tmp_path):
    Image.new("RGBA", (7, 5), (255, 0, 0, 255)).save(tmp_path / "grid.png")
    told: list[str] = []
    tracker = start(CHOICE, tmp_path, RunInfo("run", "train", {"seed": 3, "name": "run"}), told.append)
    tracker.metrics({"train/loss": 0.5, "train/note": "no number"}, 10)
    tracker.picture("validation", tmp_path / "grid.png", 10)
    tracker.table("report", ["name", "identity"], [["first", None], ["second", 0.25]])
    tracker.finish({"loss": 0.5})
    found = read(tmp_path / "tensorboard")
    assert found.Tags()["scalars"] == ["train/loss"] and not told
    assert [(e.step, e.value) for e in found.Scalars("train/loss")] == [(10, 0.5)]
    (image,) = found.Images("validation")
    assert (image.step, image.width, image.height) == (10, 7, 5)
    text = {tag: found.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in found.Tags()["tensors"]}
    assert '"seed": 3' in text["settings/text_summary"]
    assert "| second | 0.25" in text["report/text_summary"]


def test_a_run_that_goes_on_has_every_step_once(tmp_path):
    """Steps 5 and 6 of the first attempt come after its last checkpoint: they are recorded again and count once."""
    run = RunInfo("run", "train", {})
    values = {}
    for attempt, tracked in enumerate((Tracked(CHOICE, tmp_path, run, print), Tracked(CHOICE, tmp_path, run, print))):
        trainer = make_trainer(tmp_path, [tracked], steps=6, checkpoint_every=4) if attempt == 0 else None
        if trainer is None:
            for folder in (tmp_path / "checkpoints").glob("step-00000006"):
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()
            trainer = resume(tmp_path, [tracked], steps=8, checkpoint_every=4)
            assert trainer.step == 4
        tracked.on_end(trainer.fit())
        values[attempt] = trainer.step
    scalars = read(tmp_path / "tensorboard").Scalars("train/loss")
    assert [e.step for e in scalars] == list(range(1, 9))


def test_without_its_package_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="tracker=tensorboard needs the package tensorboard.*pip .*tensorboard"):
        CHOICE.check()
