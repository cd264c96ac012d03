import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.photos import SAMPLES, kept_photo, write_dataset

import pm.data.dataset.forget as forget_module
from pm.data.dataset.forget import forget
from pm.data.dataset.provenance import origin, provenance_totals
from pm.data.dataset.reader import IdentityDataset
from pm.data.records import REJECTS_SCHEMA
from pm.errors import DataError

PEOPLE = {"anna": 4, "bert": 3, "carl": 5}


@pytest.fixture
def path(tmp_path) -> Path:
    return write_dataset(tmp_path / "out", PEOPLE, rejected=2)


def everything(path: Path) -> str:
    """All bytes of a dataset's folder, as text, to look for traces."""
    return "".join(p.read_bytes().decode("latin-1") for p in sorted(path.rglob("*")) if p.is_file())


def consistent(path: Path) -> dict:
    """Check that index, rows, rejects and counts agree; returns dataset.json."""
    meta = json.loads((path / "dataset.json").read_text())
    index = pq.read_table(path / "index.parquet").to_pylist()
    rejects = pq.read_table(path / "rejects.parquet").to_pylist()
    for entry in index:
        group = pq.ParquetFile(path / entry["file"]).read_row_group(entry["row_group"])
        assert group.column("photo")[entry["row"]].as_py() == entry["photo"]
    rows = sum(pq.ParquetFile(p).metadata.num_rows for p in path.glob("part-*.parquet"))
    counts = meta["counts"]
    assert rows == len(index) == counts["kept"] and counts["found"] == len(index) + len(rejects)
    assert counts["identities"] == len({r["identity"] for r in index})
    last = list(counts["stages"].values())[-1]
    assert last["kept"] == counts["kept"] and sum(meta["origins"]["licences"].values()) == counts["kept"]
    assert not list(path.glob("*.tmp*")) and not (path / "_forget").exists()
    data = IdentityDataset(path, SAMPLES)
    assert [data.sample(0, 0, k).class_word for k in range(len(data))]
    return meta


def test_a_person_leaves_no_trace_and_the_others_stay_byte_for_byte(path):
    before = {r["photo"]: r for r in rows_of(path)}
    done = forget(path, "anna")
    meta = consistent(path)
    assert len(done.photos) == 4 + 2 and done.too_few == 0  # kept and rejected ones
    assert "anna" not in everything(path)
    assert rows_of(path) == [r for name, r in before.items() if not name.startswith("anna")]
    assert meta["removals"] == [done.record] and done.record["what"] == "identity" and done.record["photos"] == 6
    with pytest.raises(DataError, match="no person and no photo hash 'anna'"):
        forget(path, "anna")
    assert consistent(path) == meta


def test_a_photo_goes_by_its_hash_and_by_the_beginning_of_it(path):
    photo = kept_photo("bert", 1, 1)
    done = forget(path, photo.sha256.upper())
    assert done.photos == ("bert/1.png",) and photo.sha256 not in json.dumps(rows_of(path), default=str)
    assert consistent(path)["removals"][0] == done.record and done.record["sha256"] == photo.sha256
    other = kept_photo("carl", 0, 2)
    assert forget(path, other.sha256[:12]).photos == ("carl/0.png",)
    assert len(consistent(path)["removals"]) == 2
    rejects = pq.read_table(path / "rejects.parquet").to_pylist()
    doubled = [{**row, "sha256": "ab" * 20 + f"{i:024x}"} for i, row in enumerate(rejects)]
    pq.write_table(pa.Table.from_pylist(doubled, schema=REJECTS_SCHEMA), path / "rejects.parquet")
    with pytest.raises(DataError, match="begins 2 photo hashes"):
        forget(path, "ab" * 8)
    assert Counter(r["identity"] for r in rows_of(path)) == {"anna": 4, "bert": 2, "carl": 4}


def test_who_is_left_with_too_few_photos_is_rejected_whole(path):
    meta = json.loads((path / "dataset.json").read_text())
    meta["settings"]["min_photos"] = 3
    (path / "dataset.json").write_text(json.dumps(meta))
    done = forget(path, kept_photo("bert", 0, 1).sha256)
    assert len(done.photos) == 1 and done.too_few == 2
    consistent(path)
    rejects = [r for r in pq.read_table(path / "rejects.parquet").to_pylist() if r["identity"] == "bert"]
    assert [(r["reason"], r["value"], r["threshold"]) for r in rejects] == [("too_few_photos", 2, 3)] * 2


def test_damage_is_not_copied_under_a_new_checksum(path):
    row = IdentityDataset(path, SAMPLES).row(0)
    part = next(p for p in path.glob("part-*.parquet") if row["vae_mean"] in p.read_bytes())
    content = bytearray(part.read_bytes())
    content[content.index(row["vae_mean"])] ^= 1
    part.write_bytes(content)
    with pytest.raises(DataError, match="is damaged .*nothing was removed"):
        forget(path, row["sha256"])
    assert part.read_bytes() == content


class Killed(BaseException):
    """Stands for a killed process."""


def test_a_killed_removal_is_all_or_nothing(path, monkeypatch):
    """Stop at every file operation in turn: the dataset is as it was, or says that it needs finishing and can be."""
    untouched, outcomes = everything(path), []
    for stop in range(40):
        copy = path.parent / f"copy{stop}"
        __import__("shutil").copytree(path, copy)
        left = stop

        def counted(original):
            def call(*args, **kwargs):
                nonlocal left
                if left == 0:
                    raise Killed
                left -= 1
                return original(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in ("write_table", "write_index", "write_json"):
                patch.setattr(forget_module, name, counted(getattr(forget_module, name)))
            for name in ("replace", "unlink"):
                patch.setattr(Path, name, counted(getattr(Path, name)))
            try:
                forget(copy, "anna")
                outcomes.append("done")
            except Killed:
                decided = (copy / "_forget" / "plan.json").exists()
                outcomes.append("decided" if decided else "undecided")
        if outcomes[-1] == "decided":
            with pytest.raises(DataError, match="interrupted; run it again"):
                IdentityDataset(copy, SAMPLES)
        elif outcomes[-1] == "undecided" and "decided" not in outcomes:
            new = copy / "_forget"
            assert everything(copy).startswith("") and "anna" in everything(copy)
            assert IdentityDataset(copy, SAMPLES).photos and new.exists() | (everything(copy) == untouched)
        if outcomes[-1] != "done":
            forget(copy, "anna") if "anna" in everything(copy) or outcomes[-1] == "decided" else None
        consistent(copy)
        assert "anna" not in everything(copy)
        if outcomes[-1] == "done":
            break
    assert outcomes[-1] == "done" and {"undecided", "decided"} <= set(outcomes)


def test_datasets_of_the_first_format_can_forget_too(path):
    for part in path.glob("part-*.parquet"):
        table = pq.read_table(part).drop_columns(["source", "licence", "class_rule", "tower"])
        pq.write_table(table, part)
    rejects = pq.read_table(path / "rejects.parquet").drop_columns(["source", "licence", "sha256"])
    pq.write_table(rejects, path / "rejects.parquet")
    meta = json.loads((path / "dataset.json").read_text()) | {"schema_version": 1}
    del meta["origins"]
    (path / "dataset.json").write_text(json.dumps(meta))
    forget(path, "carl")
    assert consistent(path)["origins"]["licences"] == {"unknown": 7}


def test_sources_are_counted_by_where_they_are(path):
    places = ["https://u:p@img.example.org/a.jpg", "s3://bucket/x/1.jpg", "anna/1.jpg", "", None]
    assert [origin(p) for p in places] == ["img.example.org", "s3://bucket", "local files", "unknown", "unknown"]
    totals = provenance_totals(sorted(path.glob("part-*.parquet")))
    assert totals == {"photos_with_sha256": 12, "licences": {"unknown": 12}, "sources": {"unknown": 12}}


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(DataError, match="no dataset at"):
        forget(tmp_path, "anna")


def rows_of(path: Path) -> list[dict]:
    data = IdentityDataset(path, SAMPLES)
    return [data.row(number) for number in range(len(data))]
