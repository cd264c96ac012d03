"""An evaluation from beginning to end, on the tiny base in this process."""

import json

import pytest
from support.evaluating import config, folder_of
from support.pages import Page
from support.sampling import write_adapter

from pm.errors import CheckpointError, ConfigError, WriteError
from pm.evaluate.rows import find_adapters
from pm.evaluate.run import evaluate
from pm.model.config import BaseConfig


@pytest.fixture(scope="module")
def folder(tiny_base, tmp_path_factory):
    return folder_of(tiny_base, tmp_path_factory.mktemp("evaluation"))


def test_a_report_has_floor_ceiling_and_every_adapter_with_every_number_of_references(tiny_base, folder, capsys):
    text = evaluate(config(tiny_base, folder))
    report = json.loads((folder / "out" / "report.json").read_text())
    names = [f"{name}, {n} reference{'s' * (n > 1)}" for name in ("one", "two") for n in (1, 2)]
    assert [row["name"] for row in report["rows"]] == names and all(name in text for name in names)
    assert report["adapter"]["name"] == "one, 2 references" and report["floor"]["compose"] is None
    assert all(0 <= report["ceiling"][name] <= 1 for name in ("identity", "prompt", "diversity"))
    assert {row["compose"] for row in report["rows"]} == {"stacked"}
    assert sorted(p.name for p in (folder / "out").iterdir()) == [
        "blind.html",
        "blind.key.json",
        "grid.png",
        "pictures",
        "report.html",
        "report.json",
        "report.md",
        "values",
    ]
    for name in ("report.html", "blind.html"):
        page = Page(folder / "out" / name)
        page.check(folder / "out")
        assert page.data["data"] and len(page.scripts) == 1
    assert len(Page(folder / "out" / "report.html").data["data"]["pairs"]) == len(report["paired"])
    assert len(report["paired"]) == 5 * 4 // 2 and "two, 1 reference − base alone (floor)" in report["paired"]
    assert not report["partial"] and report["paired"]["one, 2 references − two, 1 reference"]["prompt"]["low"] <= 1


def test_what_is_recorded_is_the_final_report(tiny_base, folder, monkeypatch):
    recorded = []

    def noted(choice, output, rows):
        recorded.append((json.loads((output / "report.json").read_text())["partial"], len(rows)))
        assert (output / "report.html").is_file() and (output / "grid.png").is_file()

    monkeypatch.setattr("pm.evaluate.run.record", noted)
    more = ("methods=[text_only]", "adapters=[]", "protocol.identities=1", "protocol.images=1")
    evaluate(config(tiny_base, folder, f"output={folder}/recorded", *more))
    assert recorded == [(False, 2)]


def test_a_base_of_photographs_is_refused_before_it_is_loaded(tiny_base, tiny_sd15, folder):
    suite = config(tiny_base, folder).suite
    suite.check(BaseConfig(str(tiny_base), ""))
    with pytest.raises(ConfigError, match="no base of the toon world.*base=toon"):
        evaluate(config(tiny_sd15, folder))
    with pytest.raises(ConfigError, match="base.path=stabilityai/"):
        suite.check(BaseConfig("stabilityai/stable-diffusion-xl-base-1.0", ""))


def test_an_output_that_cannot_be_written_is_found_before_the_work(tiny_base, folder):
    (folder / "file").touch()
    with pytest.raises(WriteError, match=f"{folder}/file/out cannot be written .*output="):
        evaluate(config(tiny_base, folder, f"output={folder}/file/out"))


def test_a_missing_adapter_is_named_with_its_full_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "empty"):
        with pytest.raises(CheckpointError, match=f"no adapter at {tmp_path}/{name}"):
            find_adapters((name,))


def test_an_adapter_of_another_base_is_refused_before_anything_is_measured(tiny_base, tiny_sd15, folder, monkeypatch):
    monkeypatch.setattr("pm.evaluate.suites.toon.ToonSuite.trials", pytest.fail)
    other = write_adapter(tiny_sd15, folder / "other.safetensors")
    with pytest.raises(CheckpointError, match=f"adapter {other} was trained on base"):
        evaluate(config(tiny_base, folder, f"adapters=[{folder / 'runs'},{other}]"))
    (folder / "words.safetensors").write_text("no weights")
    with pytest.raises(CheckpointError, match="words.safetensors is not a safetensors file"):
        evaluate(config(tiny_base, folder, f"adapters=[{folder / 'words.safetensors'}]"))


def test_more_references_than_an_adapter_takes_are_refused(tiny_base, folder):
    with pytest.raises(ConfigError, match=r"protocol.references=5, but /.*adapter.safetensors takes at most 4"):
        evaluate(config(tiny_base, folder, "protocol.references=[5]"))
