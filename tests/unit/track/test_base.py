"""A tracker that fails stops no run."""

from dataclasses import dataclass

import pytest

from pm.choice import part_names
from pm.config import from_mapping
from pm.errors import ConfigError
from pm.track.base import RunInfo, Tracker, TrackerChoice, start
from pm.track.none import NoTracker

RUN = RunInfo("run", "train", {})


@dataclass(frozen=True)
class Broken(TrackerChoice):
    at_start: bool

    def build(self, folder, run, tell):
        if self.at_start:
            raise OSError("no space left")
        return _Gone()


class _Gone(Tracker):
    def metrics(self, values, step):
        raise ConnectionError("service is gone\nsecond line")


@dataclass(frozen=True)
class Refusing(TrackerChoice):
    def build(self, folder, run, tell):
        raise ConfigError("project is not set")


def test_every_outage_is_one_line_and_the_rest_goes_on(tmp_path):
    told: list[str] = []
    tracker = start(Broken("broken", at_start=False), tmp_path, RUN, told.append)
    tracker.metrics({"loss": 1.0}, 1)
    tracker.picture("grid", tmp_path / "missing.png", 1)
    tracker.finish({})
    assert len(told) == 1 and told[0].startswith("tracker=broken could not log (service is gone); the run continues")
    start(Broken("broken", at_start=True), tmp_path, RUN, told.append).metrics({"loss": 1.0}, 1)
    assert "could not start (no space left)" in told[1] and len(told) == 2


def test_what_the_user_must_change_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="project is not set"):
        start(Refusing("refusing"), tmp_path, RUN, print)


def test_the_trackers_that_ship():
    assert part_names(TrackerChoice) == ["none", "tensorboard", "wandb"]
    assert isinstance(from_mapping(TrackerChoice, "none"), NoTracker)
    with pytest.raises(ConfigError, match="unknown config key 'tracker.enabled'"):
        from_mapping(TrackerChoice, {"name": "none", "enabled": True}, "tracker")
