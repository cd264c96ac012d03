"""Other settings in the same folder: an unfinished dataset goes back, a finished one is made anew beside itself."""

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.photos import SAMPLES, kept_photo

from pm.data.dataset import output as output_module
from pm.data.dataset.checkpoints import checkpoints, save_checkpoint
from pm.data.dataset.forget import forget
from pm.data.dataset.output import prepare_output, put_in_place
from pm.data.dataset.reader import IdentityDataset
from pm.data.dataset.writer import WORK, finish, finished_shards, write_shard
from pm.data.records import SCHEMA_VERSION, to_table
from pm.errors import DataError

ORDER = ("ingest", "faces", "verify", "crop")
OWNERS = {"min_side": "ingest", "face": "faces", "min_photos": "verify", "crop": "crop"}
SETTINGS = {"base": "f00", "photos": "d1", "face": {"name": "dlib", "min_size": 256}, "min_photos": 2}
LOOSE = {**SETTINGS, "face": {"name": "dlib", "min_size": 80}}
META = {"schema_version": SCHEMA_VERSION, "base": {"path": "there", "fingerprint": "f00"}}
META |= {"latent_shape": (4, 8, 8), "text_shape": (7, 10)}


def prepared(path, settings, overwrite=False):
    return prepare_output(path, settings, ORDER, OWNERS, overwrite)


def shard(people, count, number, reject=""):
    photos = [kept_photo(who, k, number) for who in people for k in range(count)]
    small = [p for p in photos if p.photo.endswith(f"/{reject}.png")]
    return [p.rejected("faces", "face_too_small", 100, 256) if p in small else p for p in photos]


def make(path, settings=SETTINGS, reject="", people="ab"):
    """A finished dataset in a folder that `prepared` gave."""
    write_shard(shard(people, 3, 0, reject), path)
    finish(path, ORDER, {**META, "settings": settings})


def photos_of(path):
    return IdentityDataset(path, SAMPLES, base_fingerprint="f00").photos


def test_an_unfinished_dataset_goes_back_to_what_the_setting_does_not_concern(tmp_path):
    out = tmp_path / "out"
    assert prepared(out, SETTINGS) == output_module.Opened(out, False)
    for number, stage in enumerate(("ingest", "faces", "crop")):
        save_checkpoint(to_table(shard("ab", 2, number)), out / WORK, number, stage, {})
    write_shard(shard("c", 2, 7), out)
    opened = prepared(out, LOOSE)
    assert (opened.folder, opened.complete) == (out, False)
    assert "face.min_size=80, was 256: from the stage faces on" in opened.note
    assert [stage for _, stage in checkpoints(out / WORK)] == ["ingest"] and not finished_shards(out)
    assert not list(out.glob("part-*"))
    assert prepared(out, LOOSE).note == ""


def test_a_finished_dataset_stays_until_the_new_one_is_whole(tmp_path):
    out = tmp_path / "out"
    prepared(out, SETTINGS)
    make(out, reject="1")
    opened = prepared(out, LOOSE)
    assert opened.folder == out / "_redo" and "min_size=80, was 256" in opened.note and str(out) in opened.note
    assert photos_of(out) == ["a/0.png", "a/2.png", "b/0.png", "b/2.png"]
    make(opened.folder, LOOSE)
    assert len(photos_of(out)) == 4 and prepared(out, LOOSE).complete
    put_in_place(out)
    assert len(photos_of(out)) == 6 and pq.read_metadata(out / "rejects.parquet").num_rows == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "README.md", "dataset.json", "index.parquet", "part-00000-r1.parquet", "rejects.parquet"
    ]  # fmt: skip
    assert prepared(out, LOOSE) == output_module.Opened(out, True)
    # And once more, and back: names never repeat.
    make(prepared(out, SETTINGS).folder, SETTINGS, reject="1")
    put_in_place(out)
    assert len(photos_of(out)) == 4 and (out / "part-00000-r2.parquet").exists()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", range(8))
def test_killed_at_any_moment_of_the_change_nothing_is_lost(tmp_path, monkeypatch, after):
    out = tmp_path / "out"
    prepared(out, SETTINGS)
    make(out, reject="1")
    make(prepared(out, LOOSE).folder, LOOSE)
    left = [after]

    def dying(function):
        def call(*args, **kwargs):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("rename", "replace", "unlink"):
            patch.setattr(Path, name, dying(getattr(Path, name)))
        with contextlib.suppress(Killed):
            put_in_place(out)
    opened = prepared(out, LOOSE)  # the same command again
    assert opened.complete
    if opened.folder != out:
        put_in_place(out)
    assert len(photos_of(out)) == 6 and not list(out.glob("_*"))


def test_half_a_new_dataset_is_thrown_away_where_nobody_wants_it(tmp_path):
    out = tmp_path / "out"
    prepared(out, SETTINGS)
    make(out, reject="1")
    make(prepared(out, LOOSE).folder, LOOSE)
    third = {**SETTINGS, "min_photos": 1}
    assert not prepared(out, third).complete  # not the one that was made for others
    assert prepared(out, SETTINGS).complete and not (out / "_redo").exists()
    prepared(out, LOOSE)
    forget(out, "b")  # somebody who is removed is in no half-made copy
    assert not (out / "_redo").exists() and {p[0] for p in photos_of(out)} == {"a"}
    assert not prepared(out, LOOSE).complete  # without them: the listing leaves them out


@pytest.mark.parametrize(
    "finished, other, message",
    [(False, {"base": "bar"}, r"cannot be changed to others \(base: 'f00' there, 'bar' now\).*overwrite=true"),
     (True, {"base": "bar"}, r"cannot be changed to others \(base: 'f00' there, 'bar' now\).*overwrite=true"),
     (False, {"photos": "d2", "min_photos": 3}, r"made of other photos than there are now.*overwrite=true")],
)  # fmt: skip
def test_another_base_or_other_photos_are_refused(tmp_path, finished, other, message):
    out = tmp_path / "out"
    prepared(out, SETTINGS)
    write_shard(shard("ab", 3, 0), out)
    if finished:
        finish(out, ORDER, {**META, "settings": SETTINGS})
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(DataError, match=message):
        prepared(out, {**SETTINGS, **other})
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert prepared(out, {**SETTINGS, **other}, overwrite=True) == output_module.Opened(out, False)


def test_other_photos_and_other_settings_together_make_a_finished_dataset_anew_beside_it(tmp_path):
    """Other photos alone concern some people only: tests/slow/test_grow.py."""
    out = tmp_path / "out"
    prepared(out, SETTINGS)
    make(out)
    opened = prepared(out, {**LOOSE, "photos": "d2"})
    assert opened.folder == out / "_redo" and "with face.min_size=80, was 256, other photos;" in opened.note
    write_shard(shard("a", 3, 0), opened.folder)
    opened = prepared(out, {**LOOSE, "photos": "d3"})  # what was begun for photos that have changed again is no use
    assert not opened.complete and not finished_shards(opened.folder)


def test_what_an_older_version_left_unfinished_goes_on(tmp_path):
    """Its finished shards count; its checkpoints, which were numbered, are passed over."""
    out = tmp_path / "out"
    old = {**SETTINGS, "verify": {"rule": "none", "threshold": None}}
    new = {**SETTINGS, "verify": {"name": "none"}}
    prepared(out, old)
    write_shard(shard("ab", 3, 0), out)
    save_checkpoint(to_table(shard("c", 2, 1)), out / WORK, 1, "faces", {})
    shutil.move(out / WORK / "shard-00001-faces.parquet", out / WORK / "shard-00001.1.parquet")
    assert json.loads((out / WORK / "settings.json").read_text()) == old
    assert prepared(out, new) == output_module.Opened(out, False)
    assert finished_shards(out) == {0} and not checkpoints(out / WORK, 1)
    photos = [dataclasses.replace(p, shard=1) for p in shard("c", 3, 1)]
    write_shard(photos, out)
    finish(out, ORDER, {**META, "settings": new})
    assert len(photos_of(out)) == 9
