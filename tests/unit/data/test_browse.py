import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pages import Page
from support.photos import write_dataset

from pm.data.config import BrowseConfig
from pm.data.dataset.browse import funnel, write_page
from pm.data.dataset.forget import forget
from pm.errors import ConfigError, DataError

PLAIN = {"output": None, "photos": None, "people": (), "identities": 40, "photos_per_identity": 8, "rejects": 24}


def settings(path, **changes) -> BrowseConfig:
    return BrowseConfig(**{"dataset": str(path), **PLAIN, "side": 48, **changes})


@pytest.fixture
def path(tmp_path) -> Path:
    return write_dataset(tmp_path / "out", {"anna": 4, "bert": 3, "<b>carl</b>": 2}, rejected=3)


def test_the_page_shows_people_rejects_and_counts_and_fetches_nothing(path, tmp_path):
    raw = tmp_path / "raw" / "anna"
    raw.mkdir(parents=True)
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(raw / "0.png")
    page = Page(write_page(settings(path, photos=str(tmp_path / "raw"))))
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in page.links)
    assert page.marked == ["man"] * 9
    assert page.images.count("crop") == page.images.count("mask") == 9
    assert "photo anna/0.png" in page.images and page.text.count("photo not there") == 8
    for words in ("9 of 12 photos kept, 3 people", "<b>carl</b>", "no face", "limit 1", "a man, photo 2"):
        assert words in page.text
    assert page.text.count("no picture") == 3


def test_people_can_be_named_or_spread_and_photos_limited(path):
    page = Page(write_page(settings(path, people=("bert",), photos_per_identity=2, rejects=1)))
    assert page.images.count("crop") == 2 and "anna/" not in page.text.split("Rejects")[1]
    assert "3 photos, 1 shown" in page.text
    assert Page(write_page(settings(path, identities=1))).images.count("crop") == 2
    with pytest.raises(DataError, match="no person named dora"):
        write_page(settings(path, people=("dora", "anna")))
    with pytest.raises(ConfigError, match="dataset=..."):
        settings(path, dataset=None)


def test_the_funnel_narrows_by_what_was_rejected(path):
    rows = funnel(json.loads((path / "dataset.json").read_text())["counts"])
    assert [(r["stage"], r["in"], r["kept"], r["reasons"]) for r in rows] == [
        ("ingest", 12, 12, ""),
        ("faces", 12, 9, "no face 3"),
    ]
    assert rows[1]["in_share"] == 100 and rows[1]["kept_share"] == 75


def test_who_is_forgotten_is_gone_from_the_page_too(path):
    page = write_page(settings(path))
    assert "anna" in page.read_text()
    forget(path, "anna")
    assert not page.exists()
    assert "anna" not in write_page(settings(path)).read_text()
