"""Checkpoints, bad photos and killed workers, with stages that misbehave; the same on Ray in tests/distributed."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.photos import kept_photo

from pm.data.dataset.checkpoints import latest_checkpoint
from pm.data.dataset.output import open_output
from pm.data.dataset.writer import WORK, finish
from pm.data.records import SCHEMA_VERSION, from_table, groups, to_table
from pm.data.run.steps import Step
from pm.data.run.worker import StepRunner
from pm.data.stages.stage import Work
from pm.errors import ConfigError, DataError


@pytest.fixture
def output(tmp_path):
    open_output(tmp_path / "out", {}, overwrite=False)
    return tmp_path / "out"


def shard(count=6, people="ab"):
    return to_table([kept_photo(who, number, 3) for who in people for number in range(count // len(people))])


ORDER = ("faces", "verify", "precompute")


class Steps:
    """Three steps; remembers what each stage was given."""

    def __init__(self, output, run="one", **functions):
        self.output, self.run, self.functions, self.calls, self.reports = output, run, functions, [], []

    def work(self, name, alone):
        def function(photos):
            self.calls.append((name, [p.photo for p in photos]))
            return self.functions.get(name, list)(photos)

        return Work(name, function, alone)

    def go(self, table, upto=2):
        for name in ORDER[: upto + 1]:
            make = lambda name=name: [self.work(name, name != "verify")]  # noqa: E731
            report = lambda stage, counts: self.reports.append((stage, counts))  # noqa: E731
            step = Step(name, (name,), pool=True, gpu=False)
            table = StepRunner(step, ORDER, make, self.output, self.run, report, workers=1)(table)
        return table

    @property
    def order(self):
        return [name for name, _ in self.calls]


def test_a_shard_goes_through_and_leaves_its_file_and_note(output):
    steps = Steps(output)
    (note,) = steps.go(shard()).to_pylist()
    assert (note["shard"], note["found"], note["kept"], note["identities"]) == (3, 6, 6, 2)
    assert set(json.loads(note["stages"])) == {"faces", "verify", "precompute"}
    assert steps.order == ["faces", "verify", "precompute"]
    assert sorted(p.name for p in output.rglob("shard-*")) == ["shard-00003.json"]
    meta = finish(output, ("faces", "verify", "precompute"), {"schema_version": SCHEMA_VERSION, "settings": {}})
    assert meta["counts"]["stages"]["verify"]["worker_seconds"] >= 0


@pytest.mark.parametrize("done", [0, 1, 2])
def test_what_was_done_is_not_done_again(output, done):
    Steps(output).go(shard(), upto=done)
    again = Steps(output, run="two")
    (note,) = again.go(shard()).to_pylist()
    assert again.order == ["faces", "verify", "precompute"][done + 1 :]
    runs = {stage: entry["run"] for stage, entry in json.loads(note["stages"]).items()}
    assert [runs[s] for s in ("faces", "verify", "precompute")] == ["one"] * (done + 1) + ["two"] * (2 - done)
    if done < 2:
        assert sum(counts["seen"] for _, counts in again.reports) == 18  # the display counts them all the same


def test_a_checkpoint_gives_back_what_was_put_in(output):
    table = Steps(output).go(shard(), upto=0)
    assert latest_checkpoint(output / WORK, 3, ORDER) == "faces"
    assert from_table(Steps(output, run="two").go(shard(), upto=0)) == from_table(table) == from_table(shard())


def test_what_was_kept_in_the_middle_of_a_step_is_gone_on_with(output):
    """As when other settings cut the steps elsewhere than the run before."""
    Steps(output).go(shard(), upto=0)
    again = Steps(output, run="two")
    step = Step("faces", ORDER, pool=False, gpu=False)
    make = lambda: [again.work(name, name != "verify") for name in ORDER]  # noqa: E731
    StepRunner(step, ORDER, make, output, "two", lambda *_: None, workers=None)(shard())
    assert again.order == ["verify", "precompute"]


def fails_on(names, error=ValueError):
    def function(photos):
        if any(p.photo in names for p in photos):
            raise error("broken photo")
        return photos

    return function


def test_a_photo_that_fails_is_rejected_alone_or_with_its_person(output):
    steps = Steps(output, faces=fails_on({"a/1.png"}), verify=fails_on({"b/0.png"}))
    steps.go(shard())
    rejects = {r["photo"]: r for r in pq.read_table(output / WORK / "rejects-00003.parquet").to_pylist()}
    assert {name: r["stage"] for name, r in rejects.items()} == {"a/1.png": "faces"} | {
        f"b/{i}.png": "verify" for i in range(3)
    }
    assert {r["reason"] for r in rejects.values()} == {"failed"}
    assert rejects["a/1.png"]["detail"] == "ValueError: broken photo"
    assert dict(steps.reports)["faces"]["failed"] == 1


def test_users_errors_and_faults_of_all_photos_stop_the_run(output):
    with pytest.raises(ConfigError):
        Steps(output, faces=fails_on({"a/1.png"}, ConfigError)).go(shard())
    everything = {f"{who}/{i}.png" for who in "ab" for i in range(8)}
    with pytest.raises(ZeroDivisionError):
        Steps(output, faces=fails_on(everything, ZeroDivisionError)).go(shard(16))


SCRIPT = """
    import os, signal, sys
    sys.path[:0] = {path!r}
    from unit.data.test_runner import Steps, shard

    def function(photos):
        if any(p.photo == "a/1.png" for p in photos):
            os.kill(os.getpid(), signal.SIGKILL)
        return photos

    for attempt in range(4):
        worker = os.fork()
        if worker == 0:
            Steps({output!r}, faces=function).go(shard(), upto=1)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))
"""


def test_a_photo_that_kills_the_worker_is_found_and_left_out(output):
    """Each attempt in a process of its own, forked from one that has imported everything."""
    script = textwrap.dedent(SCRIPT.format(path=sys.path, output=str(output)))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["-9", "-9", "-9", "0"], done.stderr
    done = from_table(Steps(output).go(shard(), upto=1))
    rejected = [p for p in done if p.reject]
    assert [(p.photo, p.reject.stage, p.reject.reason) for p in rejected] == [("a/1.png", "faces", "crashed")]


def test_a_killed_run_counts_against_no_photo(output):
    attempts = output / WORK / "attempts"
    for run in ("one", "two", "three"):
        (attempts / run).mkdir(parents=True)
        (attempts / run / "shard-00003-faces.json").write_text(json.dumps({"counts": {}, "current": "faces:a/1.png"}))
    for run in ("three", "four"):
        steps = Steps(output, run=run)
        assert not any(p.reject for p in from_table(steps.go(shard(), upto=0)))
        latest = next(Path(output, WORK).glob("shard-00003-faces.parquet"))
        latest.unlink()


def test_a_worker_taking_over_goes_photo_by_photo_and_person_by_person(output):
    folder = output / WORK / "attempts" / "one"
    folder.mkdir(parents=True)
    for name in ("faces", "verify"):
        (folder / f"shard-00003-{name}.json").write_text(json.dumps({"counts": {}, "current": ""}))
    steps = Steps(output)
    done = from_table(steps.go(shard(), upto=1))
    people = groups(done)
    assert [len(given) for name, given in steps.calls] == [1] * 6 + [3] * 2 and len(people) == 2
    assert not list(folder.glob("shard-*"))


def test_models_that_never_load_end_the_run_with_a_word(output):
    folder = output / WORK / "attempts" / "one"
    folder.mkdir(parents=True)
    for number in range(6):
        (folder / f"start-faces-{number}-1").touch()
    with pytest.raises(DataError, match="lower workers.faces"):
        Steps(output).go(shard())
