"""The wheel as somebody gets it: built, installed elsewhere, and used from an empty folder without the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 64 * 2**20  # bytes; the toon base is 24 MB of it


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built offline from what git would hand over, so that nothing of this checkout's own builds gets in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-q"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "-w", out, "."], cwd=source, check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def photomaker(wheel, tmp_path_factory):
    """Calls the installed command in an empty folder. Only the dependencies are this environment's."""
    site = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-index", "--no-compile", "-q", "--target", site]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, wheel], check=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "PYTHONPATH")}
    environment["PYTHONPATH"] = str(site)

    def call(*arguments: str, cwd: Path) -> str:
        command = [sys.executable, site / "bin" / "photomaker", *arguments]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
        assert str(ROOT) not in done.stdout + done.stderr
        return done.stdout

    call.site = site
    return call


def test_the_wheel_has_everything_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    for name in filter(None, tracked):
        room = name.split("/")[0]
        if room in ("conf", "assets"):
            assert f"pm/_resources/{name}" in names
        elif room in ("pm", "serving", "pipelines"):
            assert name in names
    assert {"pm/py.typed", "serving/config.yaml"} <= names
    roots = {name.split("/")[0] for name in names}
    assert {name for name in roots if not name.endswith(".dist-info")} == {"pm", "serving", "pipelines"}
    assert wheel.stat().st_size < LARGEST


def test_a_portrait_in_an_empty_folder(photomaker, tmp_path):
    photos = photomaker.site / "pm/_resources/assets/toon/examples"
    prompt = "a woman img wearing a red hoodie, smiling, in front of a blue wall"
    settings = ["images=1", "sampler.steps=4", "output=me (1)"]
    shown = photomaker("generate", f"id_images=[{photos}/woman_1.png]", f"prompt={prompt}", *settings, cwd=tmp_path)
    assert f"{tmp_path}/me (1)" in shown
    pictures = sorted((tmp_path / "me (1)").glob("*.png"))
    assert len(pictures) == 2
    assert Image.open(pictures[0]).convert("L").getextrema() != (0, 0)


def test_rays_workers_find_the_installed_project(photomaker, tmp_path):
    drawn = ["dataset=toon", "dataset.identities=2", "dataset.photos_per_identity=2", "output=mine"]
    photomaker("preprocess", *drawn, cwd=tmp_path)
    assert (tmp_path / "mine/dataset.json").exists()


def test_the_command_explains_itself(photomaker, tmp_path):
    overview = photomaker(cwd=tmp_path)
    for name in ("preprocess", "train", "generate", "evaluate", "export", "browse", "serve", "forget", "keys"):
        assert f"\n  {name} " in overview
        assert "photomaker" in photomaker(name, "--help", cwd=tmp_path)
    assert photomaker("where", cwd=tmp_path).split("\n")[0] == str(photomaker.site / "pm/_resources/conf")
    photomaker("keys", "add", "alice", cwd=tmp_path)
    assert "alice" in photomaker("keys", "list", cwd=tmp_path)
