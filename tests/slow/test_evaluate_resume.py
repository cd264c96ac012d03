"""A run that was killed goes on: what is finished is kept, the rest is made, and all is as if nothing had happened."""

import json
import shutil

import pytest
from support.evaluating import METRICS, config, folder_of

from pm.errors import ConfigError, DataError
from pm.evaluate.compare import compare
from pm.evaluate.maker import Maker
from pm.evaluate.run import evaluate


@pytest.fixture(scope="module")
def folder(tiny_base, tmp_path_factory):
    return folder_of(tiny_base, tmp_path_factory.mktemp("evaluation"), names=("one",))


def asked(base, folder, output, *overrides):
    return config(base, folder, f"output={folder / output}", "sampler.batch_size=3", *overrides)


@pytest.fixture(scope="module")
def whole(tiny_base, folder):
    """A finished evaluation: 3 rows of 4 pictures, in 6 batches of at most 3."""
    evaluate(asked(tiny_base, folder, "whole"))
    return folder / "whole"


def pixels(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.png"))}


class Killed(BaseException):
    pass


@pytest.fixture
def calls(monkeypatch):
    """What workers were asked to make; `calls.most` batches, then the process is gone."""
    made, make = [], Maker.make

    def counted(self, choice, references, items, states=None):
        if len(made) == counted.most:
            raise Killed()
        made.append(items)
        return make(self, choice, references, items, states)

    counted.most = None
    monkeypatch.setattr(Maker, "make", counted)
    made_calls = type("Calls", (list,), {})
    found = made_calls()
    found.made, found.limit = made, counted
    return found


@pytest.fixture
def measured(monkeypatch):
    """(trials, columns) of every piece that was measured."""
    found, measure = [], Maker.measure

    def counted(self, trials, columns, files):
        found.append((tuple(trials), columns))
        return measure(self, trials, columns, files)

    monkeypatch.setattr(Maker, "measure", counted)
    return found


def rows_in(output):
    report = json.loads((output / "report.json").read_text())
    return [row["metrics"] for row in [report["floor"], *report["rows"], report["ceiling"]] if row]


def test_a_killed_run_makes_only_what_is_missing_and_ends_with_the_same_pictures(
    tiny_base, folder, whole, calls, measured
):
    calls.limit.most = 3
    with pytest.raises(Killed):
        evaluate(asked(tiny_base, folder, "killed"))
    report = json.loads((folder / "killed" / "report.json").read_text())
    assert report["partial"] and report["floor"]["made"] == 4 and report["rows"] == []
    first = pixels(folder / "killed" / "pictures")
    measured.clear()
    partial = evaluate(asked(tiny_base, folder, "killed", "report_only=true"))
    assert "one, 1 reference (3 of 4)" in partial
    # The floor was measured. Of the row that was cut short, one of two people has all pictures; the ceiling has all.
    assert measured == [((t,), frozenset(METRICS)) for t in (0, 0, 1)]
    assert evaluate(asked(tiny_base, folder, "killed", "report_only=true")) == partial and len(measured) == 3

    calls.made.clear()
    calls.limit.most = None
    evaluate(asked(tiny_base, folder, "killed"))
    assert len(calls.made) == 6 - 3
    again = pixels(folder / "killed" / "pictures")
    assert first.items() <= again.items() and again == pixels(whole / "pictures")
    one, two = (json.loads((folder / name / "report.json").read_text()) for name in ("whole", "killed"))
    assert [row["metrics"] for row in one["rows"]] == [row["metrics"] for row in two["rows"]]

    calls.made.clear()
    evaluate(asked(tiny_base, folder, "killed"))
    assert not calls.made  # not one picture twice


def test_nothing_is_measured_twice_and_what_changed_is(tiny_base, folder, whole, measured, monkeypatch):
    shutil.copytree(whole, folder / "again")
    told = evaluate(asked(tiny_base, folder, "again", "report_only=true"))
    assert not measured and rows_in(folder / "again") == rows_in(whole)

    probe = f"probe: {folder}/probe.safetensors"
    more = (
        f"metrics=[{', '.join(f'{{name: {n}, {probe}}}' for n in METRICS)}, {{name: identity, column: again, {probe}}}]"
    )
    assert evaluate(asked(tiny_base, folder, "again", "report_only=true", more)) != told
    assert {columns for _, columns in measured} == {frozenset({"again"})}
    for row in rows_in(folder / "again"):
        assert row["again"]["per_person"] == row["identity"]["per_person"] and len(row) == 4
    made = len(measured)
    evaluate(asked(tiny_base, folder, "again", more))  # makes nothing, and measures nothing either
    assert len(measured) == made

    one, two = sorted((folder / "again" / "pictures" / "one-1-reference").rglob("00-*.png"))[:2]
    one.write_bytes(two.read_bytes())
    evaluate(asked(tiny_base, folder, "again", "report_only=true"))
    assert measured[made:] == [((0,), frozenset(METRICS))]

    values = folder / "again" / "values" / "one-1-reference" / "prompt.json"
    values.write_text(values.read_text()[:-20])
    evaluate(asked(tiny_base, folder, "again"))
    assert {columns for _, columns in measured[made + 1 :]} == {frozenset({"prompt"})}


def test_a_picture_that_was_lost_is_made_again_and_the_others_stay(tiny_base, folder, whole, calls):
    shutil.copytree(whole, folder / "lost")
    before = pixels(folder / "lost" / "pictures")
    lost = folder / "lost" / "pictures" / sorted(before)[-1]
    ages = {p: p.stat().st_mtime_ns for p in (folder / "lost").rglob("*.png") if "pictures" in p.parts and p != lost}
    lost.unlink()
    evaluate(asked(tiny_base, folder, "lost"))
    assert len(calls.made) == 1 and pixels(folder / "lost" / "pictures") == before
    assert all(path.stat().st_mtime_ns == age for path, age in ages.items())


def test_pictures_of_other_settings_are_not_taken_for_these(tiny_base, folder, whole, calls, capsys):
    shutil.copytree(whole, folder / "other")
    before = pixels(folder / "other" / "pictures")
    evaluate(asked(tiny_base, folder, "other", "sampler.guidance=2"))
    assert len(calls.made) == 6 and "made anew" in capsys.readouterr().out
    after = pixels(folder / "other" / "pictures")
    assert before.keys() == after.keys() and before != after


def test_reports_of_one_protocol_are_compared_and_those_of_two_are_refused(tiny_base, folder, whole):
    for name, more in (("second", ("sampler.steps=1",)), ("third", ("protocol.images=1",))):
        evaluate(asked(tiny_base, folder, name, *more))
    text = compare([str(whole), str(folder / "second" / "report.json")])
    assert text.count("one, 2 references") == 2 and "(second)" in text and text.count("(floor)") == 1
    with pytest.raises(ConfigError, match="images=2 and .*third.* has images=1; reports of different protocols"):
        compare([str(whole), str(folder / "third")])
    evaluate(asked(tiny_base, folder, "against", "metrics=[{name: squeezenet_distance, against: held_out}]"))
    evaluate(asked(tiny_base, folder, "shown", "metrics=[squeezenet_distance]"))
    with pytest.raises(ConfigError, match="distance has against=held_out in .* and against=references in .*shown"):
        compare([str(folder / "against"), str(folder / "shown")])
    with pytest.raises(DataError, match="is no report of evaluate"):
        compare([str(folder / "nowhere")])
    file = folder / "second" / "report.json"
    report = json.loads(file.read_text())
    for row in report["rows"]:
        row["metrics"]["prompt"]["model"]["fingerprint"] = "0123456789abcdef"
    file.write_text(json.dumps(report))
    with pytest.raises(ConfigError, match="prompt has values of toon probe .* and toon probe 0123456789abcdef"):
        compare([str(whole), str(folder / "second")])


TUNED = """
from dataclasses import dataclass
from typing import ClassVar

import torch

from pm.methods.text_only import TextOnly


@dataclass(frozen=True)
class Tuned(TextOnly):
    log: str

    title: ClassVar[str] = "tuned"
    tunes_per_person: ClassVar[bool] = True
    needs_references: ClassVar[bool] = True

    def load(self, base, sampler, device, dtype):
        method = super().load(base, sampler, device, dtype)
        requests = method.requests

        def personalise(references, class_word, seed):
            with open(self.log, "a") as file:
                file.write(f"{len(references)} {class_word} {seed}\\n")
            return {"seed": torch.tensor(seed), "word": class_word}

        def checked(state, trial, references):
            assert state == {"seed": torch.tensor(trial.seeds[0]), "word": trial.class_word}
            return requests(state, trial, references)

        method.personalise, method.requests = personalise, checked
        return method
"""


def test_what_was_learned_of_a_person_is_kept(tiny_base, folder, calls, tmp_path, monkeypatch):
    (tmp_path / "slow_methods").mkdir()
    (tmp_path / "slow_methods" / "tuned.py").write_text(TUNED)
    monkeypatch.syspath_prepend(tmp_path)
    log = tmp_path / "log"
    settings = (f"methods=[{{name: slow_methods.tuned, log: {log}}}]", "adapters=[]", "protocol.references=[2]")
    calls.limit.most = 1
    with pytest.raises(Killed):
        evaluate(asked(tiny_base, folder, "tuned", *settings))
    learned = log.read_text().splitlines()
    assert len(learned) == len(set(learned)) == 2 and all(line.startswith("2 ") for line in learned)
    assert len(list((folder / "tuned" / "states").rglob("*.pt"))) == 2
    calls.limit.most = None
    text = evaluate(asked(tiny_base, folder, "tuned", *settings))
    assert log.read_text().splitlines() == learned and "s / person" in text  # nobody is learned twice
    report = json.loads((folder / "tuned" / "report.json").read_text())
    assert report["rows"][0]["seconds_to_personalise"] >= 0
