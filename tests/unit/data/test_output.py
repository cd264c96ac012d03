import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.photos import kept_photo, write_dataset

from pm.data.dataset.output import locked, open_output
from pm.data.dataset.preview import write_preview
from pm.data.dataset.writer import finish, finished_shards, settings_hash, write_shard
from pm.data.records import SCHEMA_VERSION, Photo, rejects_table
from pm.errors import DataError, LockedError, WriteError

SETTINGS = {"base": "f00", "crop": {"face_share": 0.1}, "photos": "abc"}
META = {"schema_version": SCHEMA_VERSION, "settings": SETTINGS}
STAGES = ("ingest", "faces", "verify")


def shard(number, kept=3, dropped=1):
    photos = [kept_photo(f"p{number}", i, number) for i in range(kept + dropped)]
    return photos[:kept] + [p.rejected("faces", "no_face", 0, 1) for p in photos[kept:]]


def test_nothing_disappears_and_the_index_finds_every_row(tmp_path):
    assert not open_output(tmp_path / "out", SETTINGS, overwrite=False)
    shards = [shard(0, 40, 2), shard(1, 0, 3), shard(2, 5, 0)]
    for photos in shards:
        write_shard(photos, tmp_path / "out")
    meta = finish(tmp_path / "out", STAGES, META)
    assert meta["counts"] == {
        "found": 50,
        "kept": 45,
        "identities": 2,
        "stages": {
            "ingest": {"in": 50, "kept": 50, "rejected": {}},
            "faces": {"in": 50, "kept": 45, "rejected": {"no_face": 5}},
            "verify": {"in": 45, "kept": 45, "rejected": {}},
        },
    }
    index = pq.read_table(tmp_path / "out" / "index.parquet").to_pylist()
    rejects = pq.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    assert sorted(r["photo"] for r in [*index, *rejects]) == sorted(p.photo for s in shards for p in s)
    for entry in index:
        group = pq.ParquetFile(tmp_path / "out" / entry["file"]).read_row_group(entry["row_group"])
        assert group.column("photo")[entry["row"]].as_py() == entry["photo"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "README.md",
        "dataset.json",
        "index.parquet",
        "part-00000.parquet",
        "part-00002.parquet",
        "rejects.parquet",
    ]


def test_row_groups_hold_about_a_mebibyte(tmp_path):
    from dataclasses import replace

    open_output(tmp_path / "out", SETTINGS, overwrite=False)
    write_shard([replace(p, text_embeds=bytes(200_000)) for p in shard(0, 20, 0)], tmp_path / "out")
    file = pq.ParquetFile(tmp_path / "out" / "part-00000.parquet")
    assert file.num_row_groups == 4 and file.metadata.row_group(0).num_rows == 5


def test_a_killed_run_goes_on_with_what_is_missing(tmp_path):
    out = tmp_path / "out"
    open_output(out, SETTINGS, overwrite=False)
    write_shard(shard(1), out)
    (out / "part-00000.parquet.tmp77").write_text("killed while writing")
    (out / "part-00002.parquet").write_text("written, but its note is missing: not finished")
    assert not open_output(out, SETTINGS, overwrite=False)
    assert finished_shards(out) == {1}
    for number in (0, 2):
        write_shard(shard(number), out)
    finish(out, STAGES, META)
    assert open_output(out, SETTINGS, overwrite=False)
    assert not list(out.glob("*.tmp*")) and not (out / "_work").exists()


@pytest.mark.parametrize("finished", [False, True])
def test_other_settings_are_refused_by_name_until_overwrite(tmp_path, finished):
    out = tmp_path / "out"
    open_output(out, SETTINGS, overwrite=False)
    write_shard(shard(0), out)
    if finished:
        finish(out, STAGES, META)
    other = {**SETTINGS, "crop": {"face_share": 0.2}, "min_photos": 3}
    with pytest.raises(DataError) as caught:
        open_output(out, other, overwrite=False)
    message = str(caught.value)
    assert "crop.face_share: 0.1 there, 0.2 now" in message and "min_photos: None there, 3 now" in message
    assert "overwrite=true" in message and "base" not in message and "\n" not in message
    assert (out / "part-00000.parquet").exists()
    assert not open_output(out, other, overwrite=True)
    assert not (out / "part-00000.parquet").exists()
    assert settings_hash(other) != settings_hash(SETTINGS) == settings_hash(json.loads(json.dumps(SETTINGS)))


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path, overwrite):
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(DataError, match="thesis.txt"):
        open_output(tmp_path, SETTINGS, overwrite=overwrite)
    assert (tmp_path / "thesis.txt").read_text() == "dear"


def test_preview_shows_kept_and_rejected(tmp_path):
    from PIL import Image

    path = write_dataset(tmp_path / "out", {"a": 3, "b": 2}, rejected=4)
    with Image.open(write_preview(path, tmp_path / "photos-are-gone")) as sheet:
        assert sheet.width > 800 and sheet.height > 250 and len(sheet.convert("RGB").getcolors(1 << 20)) > 100
    empty = write_dataset(tmp_path / "empty", {"a": 0}, rejected=2)
    write_preview(empty, tmp_path)


def test_pictures_open_no_photo_that_was_rejected_for_what_opening_it_costs(tmp_path, monkeypatch):
    opened = []

    def read(root, photo):
        opened.append(photo)
        return np.zeros((9, 9, 3), np.uint8)

    monkeypatch.setattr("pm.data.dataset.preview.read_pixels", read)
    path = write_dataset(tmp_path / "out", {"a": 1}, rejected=0)
    reasons = ("too_many_bytes", "too_many_pixels", "crashed", "no_face")
    rows = [Photo("a", f"a\n{reason}").rejected("ingest", reason, 1, 2) for reason in reasons]
    pq.write_table(rejects_table(rows), path / "rejects.parquet")
    write_preview(path, tmp_path)
    assert opened == ["a\nno_face"]


def test_two_runs_do_not_write_one_dataset(tmp_path):
    busy = f"output={tmp_path}/out is in use by process {os.getpid()}"
    with locked(tmp_path / "out"), pytest.raises(LockedError, match=busy), locked(tmp_path / "out"):
        raise AssertionError("both are in")
    with locked(tmp_path / "out"):
        (tmp_path / "file").touch()
    with (
        pytest.raises(WriteError, match="cannot be written.*choose another output="),
        locked(tmp_path / "file" / "out"),
    ):
        pass
