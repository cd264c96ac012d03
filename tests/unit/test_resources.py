"""Files that come with the project are found from a checkout; the wheel's own test is tests/slow/test_wheel.py."""

from pathlib import Path

import pm.resources
from pm.resources import checkout, conf_packages, resource

ROOT = Path(__file__).resolve().parents[2]


def test_in_a_checkout_they_are_where_the_repository_has_them():
    assert checkout() == ROOT
    for path in ("conf", "assets/toon/adapter.safetensors", "serving/config.yaml"):
        assert resource(path) == ROOT / path and resource(path).exists()


def test_installed_the_wheels_own_win_over_others_folders_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "pm/_resources/conf").mkdir(parents=True)
    (tmp_path / "conf").mkdir()  # some other package's
    monkeypatch.setattr(pm.resources, "_PACKAGE", tmp_path / "pm")
    monkeypatch.setattr(pm.resources, "_INSTALLED", tmp_path / "pm/_resources")
    assert checkout() is None and resource("conf") == tmp_path / "pm/_resources/conf"
    assert resource("serving/config.yaml") == tmp_path / "serving/config.yaml"


def test_yaml_of_an_installed_package_is_a_choice(tmp_path, monkeypatch):
    from serving.compose import composed

    site = tmp_path / "site"
    (site / "their_parts/conf/sampler").mkdir(parents=True)
    (site / "their_parts/__init__.py").touch()
    (site / "their_parts/conf/sampler/quick.yaml").write_text("defaults: [toon]\nsteps: 3\n")
    (site / "their_parts-1.dist-info").mkdir()
    (site / "their_parts-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: their_parts\nVersion: 1\n")
    (site / "their_parts-1.dist-info/entry_points.txt").write_text("[photomaker.conf]\nparts = their_parts.conf\n")
    monkeypatch.syspath_prepend(site)
    assert conf_packages() == ["their_parts.conf"]
    assert composed("generate", ["sampler=quick"], resolve=False)["sampler"]["steps"] == 3
