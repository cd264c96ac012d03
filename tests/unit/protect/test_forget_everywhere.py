"""A person in two datasets, one adapter, a page and an evaluation: found, followed, gone."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.photos import write_dataset, write_photo

from pipelines._audit import main as audit_command
from pm.data.config import BrowseConfig
from pm.data.dataset.browse import write_page
from pm.data.source.changes import SOURCES_SCHEMA
from pm.errors import DataError
from pm.model.adapter_file import AdapterMeta, load_adapter, save_adapter
from pm.model.compose.base import compose_from_text
from pm.protect.forget import forget_everywhere
from pm.protect.people import PEOPLE_FILE, read_people, record_of, saw, write_people
from pm.protect.places import places_below

CONSENT = json.dumps({"by": "Anna", "when": "2026-01-01", "until": "2026-06-30", "purposes": ["training"]})


def adapter(path: Path, people: list[str] | None) -> None:
    extra = {} if people is None else {"people": [record_of(people, path.parent.name, "f00")]}
    compose = compose_from_text("stacked")
    meta = AdapterMeta("f00", compose, "insert", "img", 4, "face+mask", "1", {}, extra)
    state = {"id_encoder.x": torch.zeros(1), "lora_weights.unet.x.lora_A.weight": torch.zeros(1, 1)}
    save_adapter(path, state, meta)


@pytest.fixture
def world(tmp_path) -> Path:
    for name, people in (("one", {"anna": 3, "bert": 2}), ("two", {"anna": 2, "carl": 2})):
        data = write_dataset(tmp_path / "data" / name, people, rejected=1)
        meta = json.loads((data / "dataset.json").read_text())
        meta["config"] = {"dataset": {"root": str(tmp_path / "raw" / name)}, "purpose": "training"}
        (data / "dataset.json").write_text(json.dumps(meta))
        rows = []
        for who, count in people.items():
            for number in range(count):
                write_photo(tmp_path / "raw" / name / who / f"{number}.png", number)
                said = CONSENT if (name, who) == ("one", "anna") else ""
                for file, photo in ((f"{who}/{number}.json", False), (f"{who}/{number}.png", True)):
                    rows.append((who, file, photo, 1, 0, "", "", "", said if photo else "", ""))
        columns = [list(column) for column in zip(*sorted(rows), strict=True)]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, SOURCES_SCHEMA, strict=True)]
        pq.write_table(pa.Table.from_arrays(arrays, schema=SOURCES_SCHEMA), data / "sources.parquet")
        page = tmp_path / "pages" / f"{name}.html"
        write_page(BrowseConfig(str(data), str(page), None, (), 9, 9, 9, 48))
    (tmp_path / "runs").mkdir()
    for run, people in (("first", ["anna", "bert"]), ("second", ["carl"]), ("old", None)):
        adapter(tmp_path / "runs" / run / "adapter.safetensors", people)
    (tmp_path / "runs" / "first" / "validation").mkdir()
    (tmp_path / "runs" / "first" / "validation" / "step-00000001.png").write_bytes(b"")
    pictures = tmp_path / "evaluations" / "photos" / "pictures" / "photomaker"
    for who in ("anna", "bert"):
        (pictures / who).mkdir(parents=True)
        (pictures / who / "00-0.png").write_bytes(b"")
    (pictures / "made.json").write_text("{}")
    (pictures.parents[1] / "report.html").write_text("anna and bert")
    (pictures.parents[1] / "report.json").write_text('{"rows": []}')
    return tmp_path


def test_a_person_is_followed_everywhere(world, monkeypatch):
    done = forget_everywhere("anna", places_below(world), photos=True)
    # 3 + 2 photos, as many sidecars; rejects are of anna, too, and have no file.
    assert len(done.raw) == 10 and not list(world.glob("raw/*/anna")) and len(list(world.glob("raw/*/*/*"))) == 8
    assert {path.name for path in done.removals} == {"one", "two"}
    assert done.adapters == [world / "runs" / "first" / "adapter.safetensors"]
    assert done.unknown == [world / "runs" / "old" / "adapter.safetensors"]
    names = {path.relative_to(world).as_posix() for path in done.deleted}
    assert names == {
        "pages/one.html",
        "pages/two.html",
        "runs/first/validation/step-00000001.png",
        "evaluations/photos/pictures/photomaker/anna",
        "evaluations/photos/report.html",
    }
    assert (world / "evaluations/photos/pictures/photomaker/bert/00-0.png").exists()
    left = [path for path in world.rglob("*") if path.is_file() and re.search(rb"\banna\b", path.read_bytes())]
    assert left == []
    assert "runs/first/adapter.safetensors" in done.text() and "do not say whom they saw" in done.text()
    with pytest.raises(DataError, match="nobody is called 'dora' in 2 datasets, 3 adapters and runs and 1 evaluation"):
        forget_everywhere("dora", places_below(world))


def test_raw_photos_stay_unless_asked_and_a_dataset_names_no_other_files(world):
    before = sorted(world.glob("raw/*/*/*"))
    victim = world / "victim.json"
    victim.write_text("{}")
    table = pq.read_table(world / "data/one/index.parquet")  # a dataset is not trusted
    done = forget_everywhere("anna", places_below(world / "data"))
    assert done.raw == [] and sorted(world.glob("raw/*/*/*")) == before and len(done.raw_left) == 2
    part = next((world / "data/one").glob("part-*.parquet"))
    rows = pq.read_table(part).to_pylist()
    evil = [{**row, "photo": "../../victim.json"} for row in rows]
    pq.write_table(pa.Table.from_pylist(evil, schema=pq.read_schema(part)), part)
    assert forget_everywhere("bert", places_below(world / "data"), photos=True).raw == [] and victim.exists()
    assert table.num_rows == 5


@pytest.mark.parametrize("who", ["..", ".", ""])
def test_no_name_leads_elsewhere(world, who):
    with pytest.raises(DataError):
        forget_everywhere(who, places_below(world / "evaluations"), photos=True)
    assert (world / "evaluations/photos/pictures/photomaker/bert/00-0.png").exists()


def test_the_audit_says_who_is_where_with_what_consent(world, capsys):
    audit_command([str(world), "--json"])
    found = json.loads(capsys.readouterr().out)
    people = {(person["person"], Path(person["dataset"]).name): person for person in found["people"]}
    anna = people["anna", "one"]
    assert anna["consent"] == {"expired": 3} and anna["until"] == "2026-06-30" and anna["by"] == ["Anna"]
    assert (anna["kept"], people["anna", "two"]["consent"]) == (3, {"missing": 2})
    assert [Path(path).parent.name for path in anna["adapters"]] == ["first"]
    assert people["carl", "two"]["adapters"] == [str(world / "runs/second/adapter.safetensors")]
    assert found["adapters"] == {
        str(world / "runs/first/adapter.safetensors"): 2,
        str(world / "runs/old/adapter.safetensors"): None,
        str(world / "runs/second/adapter.safetensors"): 1,
    }
    audit_command([str(world), "--who", "anna"])
    said = capsys.readouterr().out
    assert "anna: 3 photos kept" in said and "consent expired 3 by Anna until 2026-06-30; in " in said
    assert "bert:" not in said and "does not say whom it saw" in said
    with pytest.raises(SystemExit, match="is not a folder"):
        audit_command([str(world / "nowhere")])


def test_hashes_tell_known_names_and_nothing_else(tmp_path):
    record = record_of(["anna", "bert"], "run", "f00")
    assert saw([record], "anna") and not saw([record], "carl") and record_of(["bert", "anna"], "run", "f00") == record
    other = record_of(["anna"], "run2", "f00")
    assert not set(other["people"]) & set(record["people"])  # no two runs can be compared
    assert "anna" not in json.dumps([record, other])
    write_people(tmp_path, [record, other])
    assert read_people(tmp_path) == [record, other] and (tmp_path / PEOPLE_FILE).exists()
    adapter(tmp_path / "adapter.safetensors", ["anna"])
    assert saw(read_people(tmp_path / "adapter.safetensors"), "anna")
    assert load_adapter(tmp_path / "adapter.safetensors")[1].extra["people"][0]["people"]
    for damaged in (b"", b"\xff" * 8, b"\x02" + b"\0" * 7 + b"[]"):
        (tmp_path / "x.safetensors").write_bytes(damaged)
        assert read_people(tmp_path / "x.safetensors") is None
