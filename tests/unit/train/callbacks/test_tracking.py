"""What a tracker is given."""

from dataclasses import dataclass

from support.loops import make_trainer, resume

from pm.track.base import RunInfo, Tracker, TrackerChoice
from pm.train.callbacks.tracking import Tracked


class Recorder(Tracker):
    def __init__(self, calls):
        self.calls = calls

    def metrics(self, values, step):
        self.calls.append(("metrics", step, values["train/loss"]))

    def picture(self, name, path, step):
        self.calls.append(("picture", step, name, path))

    def finish(self, summary):
        self.calls.append(("finish", summary.get("step")))


@dataclass(frozen=True)
class Recording(TrackerChoice):
    calls: list

    def build(self, folder, run, tell):
        self.calls.append(("start", run.step, run.name))
        return Recorder(self.calls)


def test_a_run_is_recorded_from_start_to_end_and_goes_on(tmp_path):
    calls: list = []
    tracked = Tracked(Recording("recording", calls), tmp_path, RunInfo("run", "train", {}), print)
    trainer = make_trainer(tmp_path, [tracked], steps=2, checkpoint_every=None, log_every=2, validate_every=2)
    trainer.validate = lambda step: tmp_path / "grid.png"
    metrics = trainer.fit()
    tracked.on_end(metrics)
    assert calls == [
        ("start", 0, "run"),
        ("metrics", 2, metrics["loss"]),
        ("picture", 2, "validation", tmp_path / "grid.png"),
        ("finish", 2),
    ]
    resume(tmp_path, [Tracked(Recording("recording", calls), tmp_path, RunInfo("run", "train", {}), print)]).fit()
    assert calls[4] == ("start", 2, "run") and [c[1] for c in calls[5:] if c[0] == "metrics"] == [3, 4, 5, 6]
