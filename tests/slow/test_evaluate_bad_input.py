"""What an evaluation says, word for word, of input that cannot be used: the thing, its value and the way out."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.evaluating import config
from support.evaluation import CONFIG as PROTOCOL
from support.evaluation import trials_of

from pm.errors import ConfigError, DataError
from pm.evaluate.compare import compare
from pm.evaluate.metrics.base import Measured, Metric, MetricChoice
from pm.evaluate.metrics.clip_i import ClipI
from pm.evaluate.people import read_people
from pm.evaluate.pictures import check_even, from_manifest
from pm.evaluate.prompts import read_prompts
from pm.evaluate.report import Report, write_report
from pm.evaluate.scores import ReportRow, load_metrics, scored
from pm.evaluate.store import Store
from pm.photo.crop import CropConfig
from pm.photo.faces.sidecar import Sidecar
from pm.photo.pixels import encode_png
from pm.photo.stored import Preparation


def photo(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    path.with_suffix(".json").write_text(json.dumps({"faces": [{"box": [10, 10, 30, 30]}]}))
    return path


def said(error: type[Exception], call, *args) -> str:
    with pytest.raises(error) as raised:
        call(*args)
    assert "\n" not in str(raised.value)
    return str(raised.value)


PREPARATION = Preparation(Sidecar("sidecar", 8), None, CropConfig(0.1, 512, 100))


def test_fewer_references_than_asked(tmp_path):
    for i in range(2):
        photo(tmp_path / "bob_man" / f"{i}.png", i)
    assert said(DataError, read_people, tmp_path, PREPARATION, 3) == (
        f"bob_man has 2 photos that can be used as references of 2 in {tmp_path}/bob_man, protocol.references asks for "
        "3; add photos, or ask for fewer"
    )


def test_nobody_there(tmp_path):
    assert said(DataError, read_people, tmp_path / "none", PREPARATION, 1) == (
        f"people: {tmp_path}/none is no folder; give one with a folder for each person"
    )
    assert said(DataError, read_people, tmp_path, PREPARATION, 1) == (
        f"people: {tmp_path} has no folder of a person in it"
    )


@pytest.mark.parametrize("prompt", ["a man reading", "{person} and {person}"])
def test_a_prompt_without_the_placeholder_or_with_two(tmp_path, prompt):
    (tmp_path / "p.txt").write_text(f"{{person}} at sea\n{prompt}\n")
    assert said(DataError, read_prompts, tmp_path / "p.txt") == (
        f"prompt {prompt!r} of {tmp_path}/p.txt must have {{person}} once, where the person stands; write for example "
        "'{person} reading a book'"
    )


def test_pictures_missing_from_a_manifest_or_from_a_method(tmp_path):
    there = photo(tmp_path / "one.png")
    rows = [
        {"picture": "gone.png", "method": "ours", "person": "ann_woman", "prompt": "a woman"},
        {"picture": "one.png", "method": "ours", "person": "", "prompt": ""},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert said(DataError, from_manifest, tmp_path / "m.jsonl") == (
        f"manifest {tmp_path}/m.jsonl: row 1: {tmp_path}/gone.png does not exist; row 2 has no person and no prompt"
    )
    rows = [{**rows[0], "picture": there.name, "method": method} for method in ("ours", "ours", "less")]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert said(DataError, check_even, from_manifest(tmp_path / "m.jsonl")) == (
        "pictures are missing: less has no picture 1 of ann_woman for 'a woman'"
    )


def test_a_corrupt_picture_of_ours_and_of_another_system(tmp_path):
    store = Store(tmp_path / "out", trials_of(PROTOCOL))
    store.save("row", (0, 0), encode_png(np.zeros((8, 8, 3), np.uint8))[:40])
    file = store.path("row", (0, 0))
    assert re.fullmatch(
        rf"picture {file} cannot be read \(.+\); remove it, and the same command makes it again",
        said(DataError, store.read, "row", (0, 0)),
    )
    made = photo(tmp_path / "made" / "ours" / "ann_woman" / "00-0.png")
    made.write_bytes(made.read_bytes()[:60])
    suite = config(Path("/no/base"), tmp_path, "suite=images", f"suite.root={tmp_path}/made").suite
    (given,) = suite.given(suite.trials())
    assert re.fullmatch(
        rf"picture {made} cannot be read \(.+\); make it again, or leave it out", said(DataError, given.png, 0, 0)
    )


def reported(tmp_path, metrics, trials, without=()):
    """report.md and report.json of one row, measured from grey pictures."""
    cfg = dataclasses.replace(config(Path("/no/base"), tmp_path), metrics=tuple(metrics))
    loaded = load_metrics(metrics, "cpu")
    measured = {name: m if isinstance(m, str) else [Measured([])] * len(trials) for name, m in loaded.items()}
    scores, _ = scored(trials, measured, loaded)
    row = ReportRow("row", "ours", scores, {}, lambda t, n: np.zeros((8, 8, 3), np.uint8), about={"method": "ours"})
    text = write_report(Report(cfg, trials, [row], 1, without, ""))
    return (
        text,
        (tmp_path / "out" / "report.md").read_text(),
        json.loads((tmp_path / "out" / "report.json").read_text()),
    )


@dataclasses.dataclass(frozen=True)
class Sighted(MetricChoice):
    """Says something of pictures with a face."""

    def load(self, device):
        return _Sighted()


class _Sighted(Metric):
    def measure(self, batch):
        return [Measured([]) for _ in batch]


def test_a_model_that_cannot_be_fetched_is_told_beside_the_others(tmp_path):
    metrics = [ClipI("clip_i", "nobody/no-such-clip", "references"), Sighted("sighted")]
    _, document, report = reported(tmp_path, metrics, trials_of(PROTOCOL))
    why = report["rows"][0]["metrics"]["clip_i"]["why"]
    assert why.startswith("path=nobody/no-such-clip is neither here nor can be fetched from the Hub (")
    assert why.endswith("); with network access it is downloaded once, without it give the path of a local copy")
    assert why in document and "\n" not in why
    assert "sighted" in report["rows"][0]["metrics"]


def test_no_face_in_any_picture_is_missing_and_not_zero(tmp_path):
    text, document, report = reported(tmp_path, [Sighted("sighted")], trials_of(PROTOCOL))
    assert report["rows"][0]["sighted"] is None and text.splitlines()[-1].split("|")[2].strip() == "–"
    why = "it applies to no picture (no face found, or nothing to compare with)"
    assert report["rows"][0]["metrics"]["sighted"]["why"] == why and why in document


@pytest.mark.parametrize(
    "without, told",
    [
        (["bob_man"], "1 person has no photos beside the references (bob_man)"),
        ([f"{i}_man" for i in range(6)], "6 people have no photos beside the references (0_man, 1_man, 2_man, 3_man, "
         "4_man, ...)"),
    ],
)  # fmt: skip
def test_people_without_held_out_photos(tmp_path, without, told):
    _, document, report = reported(tmp_path, [Sighted("sighted")], trials_of(PROTOCOL), without)
    assert f"{told}: metrics that compare with such photos say nothing of them." in document
    assert report["without_held_out"] == len(without)


@pytest.mark.parametrize(
    "more, told",
    [
        ({"images": 1}, ("images=2", "images=1")),
        ({"suite": "photos", "prompts_file": "a"}, ("suite=toon", "suite=photos")),
    ],
)
def test_reports_of_different_protocols(tmp_path, more, told):
    about = {"suite": "toon", "images": 2}
    for name, of in (("a", about), ("b", about | more)):
        report = {"about": of, "rows": [], "metrics": {}, "floor": None, "ceiling": None}
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps(report))
    assert said(ConfigError, compare, [str(tmp_path / "a"), str(tmp_path / "b")]) == (
        f"{tmp_path}/a/report.json has {told[0]} and {tmp_path}/b/report.json has {told[1]}; reports of different "
        "protocols are not compared: evaluate both with the same suite and protocol"
    )
