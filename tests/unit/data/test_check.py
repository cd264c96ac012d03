import pytest
from support.photos import write_photo
from support.preprocessing import settings

from pm.config import from_mapping
from pm.data.check import check
from pm.data.config import PreprocessConfig
from pm.errors import ConfigError


@pytest.fixture
def config(root, tiny_base, tmp_path):
    write_photo(root / "p1_man" / "0.png", 3, face=None)
    (root / "p2_man" / "1.png").write_bytes(b"no photo")
    write_photo(root / "p2_man" / "2.png", 7, size=48)
    source = {**settings()["dataset"], "root": str(root), "min_side": 60}
    base = {"path": str(tiny_base), "vision_path": str(tiny_base / "image_encoder")}
    given = {"dataset": source, "base": base, "output": str(tmp_path / "out"), "overwrite": True}
    caption = {"name": "template", "templates": ["a {word}"]}
    return from_mapping(PreprocessConfig, settings(**given, caption=caption))


def test_every_photo_has_its_verdict_and_nothing_is_written(config, root, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    found = check(config)
    assert sorted(tmp_path.rglob("*")) == before
    assert len(found.photos) == 12 and found.passed == 9
    text = found.text()
    lines = dict(line.split("  ", 1) for line in text.splitlines() if ".png  " in line)
    assert lines.pop("p1_man/0.png") == "faces: no_face 0 (asked for: 1)"
    assert lines.pop("p2_man/1.png").startswith("ingest: unreadable")
    assert lines.pop("p2_man/2.png") == "ingest: too_small 48 (asked for: 60)"
    assert set(lines.values()) == {"passes"} and len(lines) == 9
    assert "9 of 12 photos would pass, of 3 people; nothing was written" in text
    assert "class words of the folders' names: man 3" in text


def test_the_advice_is_preprocesss_own(config):
    large = {**settings()["dataset"], "root": config.dataset.root, "min_side": 300}
    found = check(from_mapping(PreprocessConfig, settings(dataset=large, base=vars(config.base))))
    assert found.passed == 0 and found.advice == ()  # nothing of 64 pixels is worth a looser setting


def test_photos_that_are_elsewhere_cannot_be_looked_at(config, tmp_path):
    manifest = tmp_path / "m.csv"
    manifest.write_text("identity,url\na_man,http://example.org/1.jpg\n")
    download = {"connections": 1, "per_host": 1, "timeout": 1, "total_timeout": 1, "retries": 0, "backoff": 0}
    download |= {"max_bytes": 9, "user_agent": "", "respect_robots_tag": True, "allow_private": False}
    source = {**settings()["dataset"], "name": "urls", "manifest": str(manifest), "download": download}
    with pytest.raises(ConfigError, match="dataset=urls has to download photos.*dataset=folder dataset.root="):
        check(from_mapping(PreprocessConfig, settings(dataset=source, base=vars(config.base))))
