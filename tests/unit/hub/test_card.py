"""Cards: what they say, what makes a dataset's rows found, and what may be filled in later."""

import json
import re

import pytest
import yaml
from support.photos import write_dataset
from support.sampling import write_adapter

from pm.data.dataset.forget import forget
from pm.errors import ConfigError
from pm.hub.card import NO_CONSENT, NO_LICENCE, adapter_card, complete_card, dataset_card, read_card
from pm.model.adapter_file import load_adapter


@pytest.fixture(scope="module")
def meta(tiny_base, tmp_path_factory):
    return load_adapter(write_adapter(tiny_base, tmp_path_factory.mktemp("card") / "a.safetensors"))[1]


def parts(text: str) -> tuple[dict, str]:
    head, _, body = text.removeprefix("---\n").partition("\n---\n")
    return yaml.safe_load(head), body


def test_an_adapters_card_names_base_data_settings_and_scores(meta):
    run = {"train": {"steps": 300, "lr_lora": 1e-4, "rank": True}, "adapter": {"lora_rank": 64, "compose": {}}}
    dataset = {"counts": {"identities": 7, "kept": 90}, "origins": {"licences": {"CC0": 90}, "sources": {"a.org": 90}}}
    report = {"rows": [{"name": "PhotoMaker", "identity": 0.5}], "floor": {"name": "base", "identity": 0.1}}
    card = adapter_card(
        meta,
        name="me/mine",
        base="stabilityai/stable-diffusion-xl-base-1.0",
        run=run,
        dataset=dataset,
        report=report | {"metrics": {"identity": {}}},
        license="apache-2.0",
    )
    head, body = parts(card)
    assert head["base_model"] == "stabilityai/stable-diffusion-xl-base-1.0" and head["license"] == "apache-2.0"
    assert {"photomaker", "text-to-image"} <= set(head["tags"])
    for words in (
        "train.steps",
        "300",
        "adapter.lora_rank",
        "licence: CC0",
        "source: a.org",
        "| people ",
        "0.5",
        "base",
    ):
        assert words in body, words
    assert "train.rank" not in body and NO_LICENCE not in body


def test_what_is_not_known_is_said(meta, tmp_path):
    head, body = parts(adapter_card(meta, name="mine", base=str(tmp_path)))
    assert "base_model" not in head and "license" not in head
    assert "Not known." in body and "Not measured." in body and NO_LICENCE in body


def test_a_finished_dataset_has_a_card_that_tells_its_rows_from_its_other_tables(tmp_path):
    folder = write_dataset(tmp_path / "set", {"a": 3, "b": 2}, rejected=2)
    head, body = read_card(folder / "README.md")
    (config,) = head["configs"]
    pattern = config["data_files"][0]["path"]
    found = sorted(path.name for path in folder.glob(pattern))
    assert found == sorted(path.name for path in folder.glob("part-*.parquet")) and len(found) == 2
    assert "| people " in body and NO_CONSENT in body and "'set'" in body
    assert re.search(r"\| photos +\| 5 ", body)
    forget(folder, "a")
    assert re.search(r"\| photos +\| 2 ", read_card(folder / "README.md")[1])


def test_licence_and_consent_are_filled_in_and_words_of_others_stay(tmp_path):
    file = tmp_path / "README.md"
    file.write_text(dataset_card({}, name="mine") + "\nMy own words – ünïcode.\n", encoding="utf-8")
    assert complete_card(file, "cc-by-4.0", "signed forms") == read_card(file)[0]
    head, body = read_card(file)
    assert head["license"] == "cc-by-4.0" and "signed forms" in body and NO_CONSENT not in body
    assert body.endswith("My own words – ünïcode.\n")
    before = file.read_bytes()
    assert complete_card(file, None, None)["license"] == "cc-by-4.0" and file.read_bytes() == before


@pytest.mark.parametrize("text", ["", "# no heading", "---\n[1]\n---\nx", "---\na: [\n---\nx", json.dumps({}), "---\n"])
def test_any_readme_is_read_or_refused_in_one_line(text, tmp_path):
    file = tmp_path / "README.md"
    file.write_text(text)
    try:
        head, body = read_card(file)
    except ConfigError as error:
        assert "heading" in str(error)
    else:
        assert head == {} and body == text
