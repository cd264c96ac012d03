"""Photos come, go and change, and the same command runs again: as if the dataset had been made of them at once."""

import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from support import building
from support.building import Builder, content
from support.photos import write_photo

import pm.data.dataset.grow as grow_module
from pm.data.dataset.forget import forget
from pm.data.source.listing import from_json
from pm.errors import DataError


@pytest.fixture
def root(tmp_path) -> Path:
    """Three people with four photos each."""
    for identity in range(3):
        for photo in range(4):
            write_photo(tmp_path / "raw" / f"p{identity}_man" / f"{photo}.png", 10 * identity + photo)
    return tmp_path / "raw"


@pytest.fixture
def make(root, monkeypatch) -> Builder:
    return Builder(root, monkeypatch)


@pytest.fixture
def fourth(root) -> None:
    for number in range(4):
        write_photo(root / "p3_man" / f"{number}.png", 90 + number)


def change(root):
    """Somebody new, somebody gone, a photo more, a photo less, another photo under its name, another caption."""
    for number in range(2):
        write_photo(root / "a_man" / f"{number}.png", 200 + number)
    shutil.rmtree(root / "p3_man")
    write_photo(root / "p0_man" / "4.png", 77, face=None)
    (root / "p1_man" / "0.png").unlink()
    write_photo(root / "p2_man" / "1.png", 78)


def counts(output):
    meta = json.loads((output / "dataset.json").read_text())
    found = meta["counts"]
    stages = {name: {k: each[k] for k in ("in", "kept", "rejected")} for name, each in found["stages"].items()}
    return {**found, "stages": stages}, meta["settings"], meta["settings_hash"], meta["origins"]


def same(one, other):
    assert content(one) == content(other) and counts(one) == counts(other)
    columns = ["identity", "name", "photo", "size", "note"]
    sources = [pq.read_table(path / "sources.parquet", columns=columns) for path in (one, other)]
    assert sources[0] == sources[1]
    assert not list(one.glob("_*"))


def test_a_grown_dataset_is_one_made_of_the_present_photos(make, root, fourth, tmp_path):
    make(tmp_path / "grown", shard_photos=7)
    before = {path.name: path.read_bytes() for path in (tmp_path / "grown").glob("part-*")}
    change(root)
    report = make(tmp_path / "grown", shard_photos=7)
    assert {name.partition("/")[0] for name in make.looked_at} == {"a_man", "p0_man", "p1_man", "p2_man"}
    text = report.text(str(tmp_path / "grown"))
    assert "3 photos came (a_man/0.png, a_man/1.png, p0_man/4.png)" in text
    assert "5 photos went (p1_man/0.png, p3_man/0.png, p3_man/1.png, ...)" in text
    assert "1 photo changed (p2_man/1.png)" in text
    make(tmp_path / "new", shard_photos=7)
    same(tmp_path / "grown", tmp_path / "new")
    assert not before.keys() & {path.name for path in (tmp_path / "grown").glob("part-*")}
    # And once more, and nothing is left to do.
    write_photo(root / "a_man" / "2.png", 300)
    make(tmp_path / "grown", shard_photos=7)
    assert set(make.looked_at) == {f"a_man/{number}.png" for number in range(3)}
    assert make(tmp_path / "grown", shard_photos=7).complete_before
    make(tmp_path / "new2", shard_photos=7)
    same(tmp_path / "grown", tmp_path / "new2")


def test_who_is_not_concerned_stays_in_the_files_there_are(make, root, fourth, tmp_path):
    make(tmp_path / "out", shard_photos=1)
    before = {path: path.stat().st_ino for path in (tmp_path / "out").glob("part-*")}
    (root / "p1_man" / "0.png").unlink()
    make(tmp_path / "out", shard_photos=1)
    after = {path: path.stat().st_ino for path in (tmp_path / "out").glob("part-*")}
    assert len(before.items() & after.items()) == 3 and len(after) == 4


def test_the_same_size_at_another_time_is_another_file_and_a_copy_elsewhere_is_not(make, root, fourth, tmp_path):
    make(tmp_path / "out")
    sidecar = root / "p2_man" / "3.json"
    sidecar.write_text(sidecar.read_text().replace("red hat", "tan hat"))
    os.utime(sidecar, ns=(1, 1))
    report = make(tmp_path / "out")
    assert "1 file beside photos" in report.text("") and len(make.looked_at) == 4
    assert sum("tan hat" in row["caption"] for row in content(tmp_path / "out")["rows"]) == 1
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    assert make(tmp_path / "out", dataset={"root": str(tmp_path / "copy")}).complete_before
    shutil.rmtree(tmp_path / "copy")
    write_photo(tmp_path / "copy" / "p0_man" / "0.png", 5)
    with pytest.raises(DataError, match=r"made of other photos than there are now: of 16 there are [01] .*overwrite"):
        make(tmp_path / "out", dataset={"root": str(tmp_path / "copy")})


class Killed(BaseException):
    pass


def test_killed_at_any_moment_the_same_command_ends_with_the_same(make, root, fourth, tmp_path, monkeypatch):
    make(tmp_path / "before")
    change(root)
    make(tmp_path / "new")
    steps = ("write_table", "write_index", "write_json", "write_plan", "settle", "_link", "prepare_growth")
    for stop in range(1, 40, 4):
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(tmp_path / "before", out)
        left = [stop]

        def dying(function, left=left):
            def call(*args, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return function(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in steps:
                patch.setattr(grow_module, name, dying(getattr(grow_module, name)))
            try:
                make(out)
            except Killed:
                pass
            else:
                break
        make(out)
        same(out, tmp_path / "new")
    assert 8 < stop < 39


def test_an_unfinished_dataset_is_finished_first_and_grows_then(make, root, fourth, tmp_path, monkeypatch):
    def killed(*_):
        raise Killed

    for number in range(2, 4):  # killed after so many shards
        out = tmp_path / f"out{number}"
        with monkeypatch.context() as patch, pytest.raises(Killed):
            real, left = building.write_shard, [number]

            def dying(*args, real=real, left=left):
                left[0] -= 1
                return real(*args) if left[0] >= 0 else killed()

            patch.setattr(building, "write_shard", dying)
            make(out, shard_photos=1)
        assert not (out / "dataset.json").exists()
        if number == 2:
            change(root)
        make(out, shard_photos=1)
        make(tmp_path / f"new{number}", shard_photos=1)
        same(out, tmp_path / f"new{number}")


def test_who_was_removed_does_not_come_back(make, root, fourth, tmp_path):
    make(tmp_path / "out")
    gone = next(row for row in content(tmp_path / "out")["rows"] if row["photo"] == "p1_man/2.png")
    forget(tmp_path / "out", "p3_man")
    forget(tmp_path / "out", gone["sha256"])
    report = make(tmp_path / "out")
    assert report.complete_before and "5 photos of people who were removed" in report.text("")
    shutil.move(root / "p1_man" / "2.png", root / "p1_man" / "9.png")
    write_photo(root / "p0_man" / "7.png", 70)
    for changes in ({}, {"min_photos": 3}, {"overwrite": True}):  # grown, made again, made anew
        make(tmp_path / "out", **changes)
        rows = content(tmp_path / "out")["rows"]
        assert {row["identity"] for row in rows} == {"p0_man", "p1_man", "p2_man"}
        assert len(rows) == 5 + 3 + 4 and gone["sha256"] not in {row["sha256"] for row in rows}
    assert len(json.loads((tmp_path / "out" / "dataset.json").read_text())["removals"]) == 2
    for row in rows:
        assert "p3_man" not in json.dumps(row, default=str)


def test_a_dataset_of_an_earlier_version_is_made_again_as_a_whole(make, root, fourth, tmp_path):
    make(tmp_path / "out")
    (tmp_path / "out" / "sources.parquet").unlink()
    (root / "p1_man" / "0.png").unlink()
    make(tmp_path / "out")
    assert len(make.looked_at) == 15 and (tmp_path / "out" / "sources.parquet").exists()
    (tmp_path / "out" / "sources.parquet").unlink()
    assert make(tmp_path / "out").complete_before and (tmp_path / "out" / "sources.parquet").exists()


GIVEN = {"by": "Anna", "when": "2026-01-31"}


def write_consents(root):
    """Three people: by the root's file with an exception; in the folder's own file; none."""
    said = {"p0_man": GIVEN | {"until": "2027-01-31", "photos": {"1.png": {"until": "2026-06-30"}}}}
    (root / "consent.yaml").write_text(yaml.safe_dump(said))
    (root / "p1_man" / "consent.csv").write_text("photo,by,when,licence\n,Bert,2026-02-01,CC-BY-4.0\n")


def test_photos_without_a_valid_consent_are_rejects_with_their_reason(make, root, tmp_path):
    write_consents(root)
    make(tmp_path / "noted")
    assert len(content(tmp_path / "noted")["rows"]) == 12
    make(tmp_path / "out", consent="required")
    found = content(tmp_path / "out")
    assert {row["photo"]: (row["stage"], row["reason"], row["detail"]) for row in found["rejects"]} == {
        "p0_man/1.png": ("consent", "consent_expired", "until 2026-06-30"),
        **{f"p2_man/{number}.png": ("consent", "no_consent", "") for number in range(4)},
    }
    assert [row["licence"] for row in found["rows"]] == [""] * 3 + ["CC-BY-4.0"] * 4
    meta = json.loads((tmp_path / "out" / "dataset.json").read_text())
    stages = meta["counts"]["stages"]
    assert next(iter(stages)) == "consent" and stages["consent"]["rejected"] == {"consent_expired": 1, "no_consent": 4}
    kept = pq.read_table(tmp_path / "out" / "sources.parquet").to_pylist()
    assert {from_json(row["consent"]).by for row in kept if row["photo"]} == {"Anna", "Bert", ""}
    # Required later, only the people are done again whose photos stay out; so it is when a consent runs out.
    make(tmp_path / "noted", consent="required")
    assert {name.partition("/")[0] for name in make.looked_at} == {"p0_man", "p2_man"}
    assert content(tmp_path / "noted") == found
    text = (root / "consent.yaml").read_text()
    (root / "consent.yaml").write_text(text.replace("2027-01-31", "2026-03-01"))
    make(tmp_path / "out", consent="required")
    assert {name.partition("/")[0] for name in make.looked_at} == {"p0_man"}
    assert {row["identity"] for row in content(tmp_path / "out")["rows"]} == {"p1_man"}


def test_a_consent_that_is_only_written_otherwise_does_nothing_again(make, root, tmp_path):
    make(tmp_path / "out")
    write_consents(root)
    (root / "p1_man" / "consent.csv").unlink()
    assert make(tmp_path / "out").complete_before
    kept = pq.read_table(tmp_path / "out" / "sources.parquet").to_pylist()
    assert sum(row["consent"] != "" for row in kept) == 4
