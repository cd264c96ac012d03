"""Corrections by hand wait, can be taken back, and are then part of the dataset, however it is made."""

import shutil
from pathlib import Path

import pytest
import yaml
from support.building import Builder, content
from support.photos import write_photo

from pipelines._edit import main as edit
from pm.data.edits.change import apply, propose, undo
from pm.data.edits.file import read_edits
from pm.errors import DataError


@pytest.fixture
def root(tmp_path) -> Path:
    for identity in range(4):
        for photo in range(4):
            write_photo(tmp_path / "raw" / f"p{identity}_man" / f"{photo}.png", 10 * identity + photo)
    write_photo(tmp_path / "raw" / "p0_man" / "4.png", 99, face=None)
    for suffix in (".png", ".json"):
        shutil.copy((tmp_path / "raw/p1_man/0").with_suffix(suffix), (tmp_path / "raw/p1_man/5").with_suffix(suffix))
    write_photo(tmp_path / "raw" / "p2_man" / "small.png", 98, size=60)
    return tmp_path / "raw"


@pytest.fixture
def make(root, monkeypatch) -> Builder:
    return Builder(root, monkeypatch)


LIMIT = {"min_side": 62}


def test_every_kind_of_edit_waits_can_be_undone_and_is_applied(make, root, tmp_path, capsys):
    out = tmp_path / "out"
    make(out, dataset=LIMIT)
    before = content(out)
    edit([str(out), "reject", "p0_man/0.png", "--why", "blurred"])
    edit([str(out), "caption", "p0_man/1.png", "a man in a green hat"])
    edit([str(out), "word", "p0_man/2.png", "boy"])
    edit([str(out), "keep", "p2_man/small.png"])
    edit([str(out), "merge", "p3_man", "p2_man"])
    edit([str(out), "split", "new_man", "p1_man/0.png", "p1_man/1.png"])
    edit([str(out), "reject", "p0_man/3.png"])
    edit([str(out), "undo"])
    assert content(out) == before  # nothing has happened yet
    capsys.readouterr()
    edit([str(out), "list"])
    assert capsys.readouterr().out.count("waits: ") == 6
    make.looked_at.clear()
    edit([str(out), "apply"])
    rows = {row["photo"]: row for row in content(out)["rows"]}
    rejects = {row["photo"]: row for row in content(out)["rejects"]}
    assert (rejects["p0_man/0.png"]["reason"], rejects["p0_man/0.png"]["detail"]) == ("by_hand", "blurred")
    assert "p0_man/3.png" in rows
    assert (rows["p0_man/1.png"]["caption"], rows["p0_man/1.png"]["class_word"]) == ("a man in a green hat", "man")
    assert (rows["p0_man/2.png"]["caption"], rows["p0_man/2.png"]["class_word"]) == ("a boy in a red hat", "boy")
    assert rows["p0_man/2.png"]["class_rule"] == "by_hand"
    people = {name: row["identity"] for name, row in rows.items()}
    assert people["p2_man/small.png"] == people["p3_man/0.png"] == "p2_man" and people["p1_man/0.png"] == "new_man"
    assert people["p1_man/5.png"] == "p1_man"  # no longer the same file twice in one person
    assert read_edits(out).pending == () and len(read_edits(out).applied) == 6
    # Made anew, or grown, they are still in force: later photos of who was merged, too.
    write_photo(root / "p3_man" / "9.png", 97)
    make(out, dataset=LIMIT)
    assert {row["identity"] for row in content(out)["rows"]} == {"p0_man", "p1_man", "p2_man", "new_man"}
    (tmp_path / "new").mkdir()
    shutil.copy(out / "edits.yaml", tmp_path / "new")
    make(tmp_path / "new", dataset=LIMIT)
    assert content(out) == content(tmp_path / "new")
    make(out, dataset=LIMIT, overwrite=True)
    assert content(out) == content(tmp_path / "new")
    # What is applied is taken back by an edit of its own.
    propose(out, {"edit": "reset", "photo": "p0_man/0.png"})
    propose(out, {"edit": "reset", "photo": "p1_man/0.png"})
    make.looked_at.clear()
    apply(out)
    people = {row["photo"]: row["identity"] for row in content(out)["rows"]}
    assert people["p0_man/0.png"] == "p0_man" and people["p1_man/0.png"] == "p1_man"


def test_who_is_forgotten_by_an_edit_leaves_no_trace_and_does_not_come_back(make, root, tmp_path):
    out = tmp_path / "out"
    make(out, dataset=LIMIT)
    propose(out, {"edit": "merge", "person": "p3_man", "into": "p2_man"})
    propose(out, {"edit": "split", "photos": ["p1_man/1.png"], "into": "p2_man"})
    propose(out, {"edit": "reject", "photo": "p0_man/0.png"})
    propose(out, {"edit": "forget", "who": "p2_man"})
    assert apply(out).forgotten == ("p2_man",)
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert b"p2_man" not in everything and b"p3_man" not in everything
    assert [each["edit"] for each in yaml.safe_load((out / "edits.yaml").read_text())["applied"]] == ["reject"]
    for _ in range(2):  # what lies beside the photo that was taken out of p1_man's is p1_man's again
        report = make(out, dataset=LIMIT)
        photos = {row["photo"] for name in ("rows", "rejects") for row in content(out)[name]}
        assert {name.partition("/")[0] for name in photos} == {"p0_man", "p1_man"} and "p1_man/1.png" not in photos
    assert report.complete_before


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"edit": "reject", "photo": "p0_man/77.png"}, "has no photo 'p0_man/77.png'; photomaker browse shows"),
        ({"edit": "keep", "photo": "p0_man/4.png"}, "left out as no_face, which cannot be overruled"),
        ({"edit": "merge", "person": "nobody", "into": "p0_man"}, "has no person 'nobody'"),
        ({"edit": "merge", "person": "p0_man", "into": "p0_man"}, "cannot be merged into itself"),
        ({"edit": "split", "photos": ["p0_man/0.png"], "into": "a/b"}, "is no name of a person"),
        ({"edit": "caption", "photo": "p0_man/0.png", "caption": "a hat"}, "has no word for the person"),
        ({"edit": "caption", "photo": "p0_man/0.png", "caption": "a man", "class_word": "boy"}, "lacks the class word"),
        ({"edit": "caption", "photo": "p0_man/0.png"}, "needs caption or class_word"),
        ({"edit": "paint", "photo": "p0_man/0.png"}, "kinds are keep, reject, caption"),
        ({"edit": "reject", "photo": "p0_man/0.png", "colour": "red"}, "reject has no colour"),
    ],
)
def test_what_cannot_be_is_said_at_once(dataset, wrong, message):
    with pytest.raises(DataError, match=message):
        propose(dataset, wrong)
    assert not (dataset / "edits.yaml").exists()
    with pytest.raises(DataError, match="0 edits of .* wait, so 1 cannot be undone"):
        undo(dataset)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("edits")
    for photo in range(2):
        write_photo(folder / "raw" / "p0_man" / f"{photo}.png", photo)
    write_photo(folder / "raw" / "p0_man" / "4.png", 99, face=None)
    with pytest.MonkeyPatch.context() as patch:
        Builder(folder / "raw", patch)(folder / "out")
    return folder / "out"
