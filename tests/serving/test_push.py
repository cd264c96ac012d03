"""Uploading to a Hub on the loopback, and using from there what was uploaded."""

import json

import pytest
from support.hub import running_hub
from support.photos import write_dataset
from support.sampling import write_adapter

from pm.errors import CheckpointError, ConfigError, DataError, PmError
from pm.hub.card import adapter_card
from pm.hub.config import PushConfig
from pm.hub.push import push
from pm.model.adapter_file import load_adapter
from pm.sample.adapters import find_adapter


@pytest.fixture
def hub(monkeypatch):
    with running_hub() as found:
        # What HF_ENDPOINT sets; the library reads that once, when it is imported.
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", found.url)
        template = f"{found.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        yield found


@pytest.fixture
def adapter(tiny_base, tmp_path):
    """A folder with an adapter, its card, and other things."""
    folder = tmp_path / "mine"
    folder.mkdir()
    write_adapter(tiny_base, folder / "adapter.safetensors")
    (folder / "README.md").write_text(adapter_card(load_adapter(folder / "adapter.safetensors")[1], name="me/mine"))
    (folder / "metrics.jsonl").write_text("{}")
    return folder


def settings(folder, **over) -> PushConfig:
    usual = {"repo": "me/mine", "private": True, "license": "apache-2.0", "consent": None, "ask": False}
    return PushConfig(**{"folder": str(folder)} | usual | over)


def test_an_adapter_goes_there_and_is_used_from_there(hub, adapter, tmp_path):
    address = push(settings(adapter))
    assert address == f"{hub.url}/me/mine"
    assert hub.names("me/mine") == ["README.md", "adapter.safetensors"]
    assert hub.created[0]["visibility"] == "private" and hub.created[0]["type"] == "model"
    assert b"license: apache-2.0" in hub.files["me/mine", "README.md"]
    file = find_adapter("me/mine", None, "", cache_dir=tmp_path / "cache")
    assert file.read_bytes() == (adapter / "adapter.safetensors").read_bytes()
    hub.files["them/old", "photomaker-v1.bin"] = b"weights"
    other = find_adapter("them/old", None, "", cache_dir=tmp_path / "cache")
    assert other.read_bytes() == b"weights"
    with pytest.raises(CheckpointError, match="nobody/here is neither a file nor can adapter.safetensors or"):
        find_adapter("nobody/here", None, "", cache_dir=tmp_path / "cache")


def test_it_asks_first(hub, adapter, monkeypatch):
    asked = []

    def ask(answer):
        return lambda question: asked.append(question) or answer

    for answer in ("", "n", "nein"):
        with pytest.raises(PmError, match="nothing was uploaded"):
            push(settings(adapter, ask=True), ask(answer))
    assert not hub.created and not hub.files
    assert "the adapter mine (2 files" in asked[0] and "the private model repository me/mine" in asked[0]
    push(settings(adapter, ask=True, private=False), ask("y"))
    assert "the PUBLIC model repository" in asked[-1] and hub.created[0]["visibility"] == "public"
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(ConfigError, match="nobody can be asked here; say ask=false"):
        push(settings(adapter, ask=True))


def test_photos_only_with_licence_source_and_consent(hub, tmp_path):
    folder = write_dataset(tmp_path / "set", {"a": 3, "b": 2}, rejected=2)
    consent = "signed forms of all people"
    with pytest.raises(DataError, match="5 photos have no licence; photos of people are not uploaded without"):
        push(settings(folder, consent=consent))
    meta = json.loads((folder / "dataset.json").read_text())
    meta["origins"] |= {"licences": {"CC-BY-4.0": 5}, "sources": {"unknown": 2, "example.org": 3}}
    (folder / "dataset.json").write_text(json.dumps(meta))
    with pytest.raises(DataError, match="2 photos have no source"):
        push(settings(folder, consent=consent))
    meta["origins"]["sources"] = {"example.org": 5}
    (folder / "dataset.json").write_text(json.dumps(meta))
    for missing in (None, "", "  "):
        with pytest.raises(DataError, match="holds photos of people; say how they agreed to be published: consent="):
            push(settings(folder, consent=missing))
    with pytest.raises(ConfigError, match="names no licence; say license="):
        push(settings(folder, consent=consent, license=None))
    assert not hub.files
    assert push(settings(folder, consent=consent, repo="me/faces")) == f"{hub.url}/datasets/me/faces"
    parts = sorted(path.name for path in folder.glob("part-*.parquet"))
    assert hub.names("me/faces") == sorted(["README.md", "dataset.json", "index.parquet", *parts])  # no rejected photo
    assert consent.encode() in hub.files["me/faces", "README.md"]


def test_what_cannot_be_uploaded_is_one_line(hub, adapter, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="holds neither adapter.safetensors nor dataset.json"):
        push(settings(tmp_path / "nowhere"))
    for repo in ("mine", "a/b/c", "/mine", "me/", "me/mi ne"):
        with pytest.raises(ConfigError, match="is no name of a repository; write owner/name"):
            settings(adapter, repo=repo)
    with pytest.raises(ConfigError, match="consent= is for datasets"):
        push(settings(adapter, consent="yes"))
    (adapter / "README.md").unlink()
    with pytest.raises(ConfigError, match="README.md cannot be read .*write a card"):
        push(settings(adapter))
