import ast
import importlib.metadata
import tomllib
from pathlib import Path

import pytest

from pm import errors

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_a_checkout_is_installed_again_with_the_extra():
    assert errors.install_hint("photos") == f"pip install -e '{ROOT}[photos]'"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """As if the package lay in an environment, without its checkout."""
    (tmp_path / "pm").mkdir()
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "pm" / "errors.py"))


def test_an_installed_wheel_lists_the_packages_of_the_extra(elsewhere, monkeypatch):
    declared = ["torch>=2.9", 'dlib-bin>=20.0.1; extra == "photos"', 'spacy>=3.8; extra == "captions"']
    declared += ['opencv-python-headless>=4.10; python_version >= "3.11" and extra == "photos"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: declared)
    assert errors.install_hint("photos") == "pip install 'dlib-bin>=20.0.1' 'opencv-python-headless>=4.10'"


def test_a_copy_without_metadata_still_says_something(elsewhere, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    assert "pyproject.toml lists as photos" in errors.install_hint("photos")


def test_every_hint_names_an_extra_that_there_is_and_no_message_an_index():
    for path in [*ROOT.glob("pm/**/*.py"), *ROOT.glob("serving/**/*.py"), *ROOT.glob("pipelines/**/*.py")]:
        text = path.read_text()
        assert "pip install 'photomaker-ray" not in text, path
        calls = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call) and "install_hint" in ast.dump(n.func)]
        assert all(call.args[0].value in EXTRAS for call in calls), path
