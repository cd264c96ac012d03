"""People with photographs, prompts, and pictures of other systems: what is read of them, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.evaluating import config, folder_of

from pm.errors import ConfigError, DataError
from pm.evaluate.prompts import read_prompts, spread
from pm.evaluate.run import evaluate
from pm.resources import resource


def photo(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    path.with_suffix(".json").write_text(json.dumps({"faces": [{"box": [10, 10, 30, 30]}]}))
    return pixels


NO_BASE = Path("/no/base")


@pytest.fixture(scope="module")
def folder(tiny_base, tmp_path_factory):
    path = folder_of(tiny_base, tmp_path_factory.mktemp("suites"), names=("one",))
    for p, (person, count) in enumerate({"ann_woman": 4, "bob_man": 2}.items()):
        for i in range(count):
            photo(path / "people" / person / f"{i}.png", 10 * p + i)
    for kind, count in (("references", 3), ("held_out", 2)):
        for i in range(count):
            photo(path / "people" / "cat_girl" / kind / f"{i}.png", 100 + count * 10 + i)
    (path / "prompts.yaml").write_text(
        "action: ['{person} reading', 'photo of {person} running']\nplace: ['{person} at sea']"
    )
    return path


def suite(base, folder, kind, *overrides):
    face = (
        "face@suite.photo.face=sidecar",
        "suite.photo.mask=null",
        "suite.photo.crop.max_upscale=100",
    )
    plain = ("metrics=[{name: bright_metric.mean}]", f"suite.prompts={folder}/prompts.yaml")
    return config(base, folder, f"suite={kind}", *face, *plain, *overrides)


@pytest.fixture(autouse=True)
def bright_metric(tmp_path, monkeypatch):
    (tmp_path / "bright_metric").mkdir()
    (tmp_path / "bright_metric" / "mean.py").write_text(
        "from dataclasses import dataclass\nfrom pm.evaluate.metrics.base import Measured, Metric, MetricChoice\n"
        "@dataclass(frozen=True)\nclass Mean(MetricChoice):\n    def load(self, device):\n        return M()\n"
        "class M(Metric):\n    def measure(self, batch):\n"
        "        return [Measured([float(i.mean()) / 255 for i in p.images]) for p in batch]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def photos(base, folder, *overrides):
    return suite(base, folder, "photos", f"suite.root={folder}/people", "suite.drawn_base=true", *overrides)


def test_photos_are_references_and_held_out_by_name_or_by_folder(tiny_base, folder):
    trials = photos(tiny_base, folder, "protocol.identities=9", "protocol.prompts=2").suite.trials()
    found = {t.person: t for t in trials}
    assert {p: (t.class_word, len(t.references), len(t.held_out)) for p, t in found.items()} == {
        "ann_woman": ("woman", 2, 2), "bob_man": ("man", 2, 0), "cat_girl": ("girl", 2, 2)
    }  # fmt: skip
    assert [photo.name for photo in found["ann_woman"].references] == ["ann_woman/0.png", "ann_woman/1.png"]
    assert [t.template for t in trials[:2]] == ["{person} reading", "photo of {person} running"]
    assert trials[0].category == "action" and trials[0].prompt(trials[0].subject) == "a woman reading"
    again = photos(tiny_base, folder, "protocol.identities=9", "protocol.prompts=2").suite.trials()
    assert [t.seeds for t in trials] == [t.seeds for t in again]


def test_a_person_without_held_out_photos_is_evaluated_and_named(tiny_base, folder):
    out = folder / "photos"
    evaluate(photos(tiny_base, folder, "protocol.identities=9", f"output={out}", "protocol.references=[2]"))
    report = json.loads((out / "report.json").read_text())
    assert (
        report["without_held_out"] == 1
        and "1 person has no photos beside the references (bob_man)" in (out / "report.md").read_text()
    )
    assert report["rows"][0]["made"] == 6 and report["about"]["suite"] == "photos"


def test_too_few_references_are_refused_by_name(tiny_base, folder):
    with pytest.raises(DataError, match="bob_man has 2 photos that can be used as references.*asks for 3"):
        evaluate(photos(tiny_base, folder, "protocol.identities=9", "protocol.references=[3]"))


def test_a_photo_without_a_face_or_damaged_is_left_out_by_name(tiny_base, folder, tmp_path, capsys):
    for i in range(4):
        photo(tmp_path / "people" / "dan_man" / f"{i}.png", i)
    (tmp_path / "people" / "dan_man" / "0.json").write_text(json.dumps({"faces": []}))
    (tmp_path / "people" / "dan_man" / "1.png").write_bytes(b"no picture")
    trial = photos(tiny_base, folder, f"suite.root={tmp_path}/people").suite.trials()[0]
    assert [p.name for p in trial.references] == ["dan_man/2.png", "dan_man/3.png"] and not trial.held_out
    said = capsys.readouterr().out
    assert "dan_man/0.png is left out" in said and "dan_man/1.png is left out" in said


def test_a_base_of_drawings_is_refused_for_photographs(tiny_base, folder, tmp_path):
    import shutil

    shutil.copytree(tiny_base, tmp_path / "drawn")
    index = json.loads((tiny_base / "model_index.json").read_text()) | {"_drawn": True}
    (tmp_path / "drawn" / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match="knows drawings only.*suite.drawn_base=true"):
        evaluate(photos(tmp_path / "drawn", folder, "suite.drawn_base=false"))
    with pytest.raises(ConfigError, match="suite.root is not set"):
        suite(tiny_base, folder, "photos")


@pytest.mark.parametrize(
    "text, why",
    [
        ("a: ['a man reading']", "'a man reading' .* must have {person} once"),
        ("a: ['{person} and {person}']", "must have {person} once"),
        ("a: ['{person} x', '{person} x']", "twice"),
        ("- '{person}'", "must be a mapping"),
        ("a: []", "has no prompt"),
        ("a: [", "cannot be read"),
    ],
)
def test_prompts_that_cannot_be_used_are_named(tmp_path, text, why):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(DataError, match=why):
        read_prompts(tmp_path / "p.yaml")


def test_the_papers_prompts_are_forty_over_five_categories():
    prompts = read_prompts(resource("conf/prompts/paper.yaml"))
    assert len(prompts) == 40 and [p.category for p in spread(prompts, 5)] == list(
        dict.fromkeys(p.category for p in prompts)
    )
    assert spread(prompts, 99) == prompts


def pictures(folder, methods=("ours", "theirs")):
    for m, method in enumerate(methods):
        for person in ("ann_woman", "cat_girl"):
            for k in range(2):
                for n in range(2):
                    photo(folder / method / person / f"{k:02d}-{n}.png", 1000 * m + 10 * k + n)
    return folder


def test_pictures_of_other_systems_are_scored_from_folders_without_any_base(folder, tmp_path):
    root = pictures(tmp_path / "made")
    more = (f"suite.root={root}", f"suite.people={folder}/people", f"output={tmp_path}/out", "protocol.prompts=3")
    text = evaluate(suite(NO_BASE, folder, "images", *more))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["ours", "theirs"] and "ours" in text
    expected = [np.asarray(Image.open(p)).mean() / 255 for p in sorted((root / "ours").rglob("*.png"))]
    assert report["rows"][0]["bright_metric.mean"] == pytest.approx(np.mean(expected))
    assert set(report["paired"]) == {"ours − theirs"}


def test_pictures_in_a_manifest_and_what_is_wrong_with_it(folder, tmp_path):
    root = pictures(tmp_path / "made", methods=("ours",))
    files = sorted(root.rglob("*.png"))
    rows = [
        {"picture": str(f), "method": "ours", "person": f.parent.name, "prompt": f"a person {f.stem[:2]}"}
        for f in files
    ]
    manifest = tmp_path / "m.jsonl"

    def run(rows):
        manifest.write_text("\n".join(map(json.dumps, rows)))
        return evaluate(suite(NO_BASE, folder, "images", f"suite.manifest={manifest}", f"output={tmp_path}/out"))

    assert "ours" in run(rows)
    with pytest.raises(DataError, match="row 1: /nowhere.png does not exist; row 2 has no prompt"):
        run([rows[0] | {"picture": "/nowhere.png"}, rows[1] | {"prompt": ""}, *rows[2:]])
    with pytest.raises(DataError, match="pictures are missing: less has no picture 1 of ann_woman for 'a person 00'"):
        run([*rows, *(row | {"method": "less"} for i, row in enumerate(rows) if i != 1)])
    files[3].write_bytes(files[3].read_bytes()[:60])
    with pytest.raises(DataError, match=f"picture {files[3]} cannot be read"):
        run(rows)
    with pytest.raises(ConfigError, match="needs either suite.root"):
        suite(NO_BASE, folder, "images")
