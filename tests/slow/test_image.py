"""The image's recipe, step by step in a scratch folder instead of in Docker, and what the manifests start in it."""

import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = {"TORCH_BACKEND": "cpu" if torch.version.cuda is None else f"cu{torch.version.cuda.replace('.', '')}"}
MANIFESTS = sorted((ROOT / "deploy/kuberay").glob("*.yaml"))

# In place of the image's pip: offline, without dependencies, and into a folder.
PIP = """#!/bin/sh
command="$1"; shift
case "$*" in *uv==*) exit 0 ;; esac
case "$command" in
  wheel) exec "{python}" -m pip wheel -q --no-index --no-build-isolation "$@" ;;
  install) exec "{python}" -m pip install -q --no-index --no-deps --target "$SITE" "$@" ;;
esac
exit 9
"""
# In place of uv, which brings torch: it is there.
UV = "#!/bin/sh\n"
PYTHON = """#!/bin/sh
PYTHONPATH="$SITE" exec "{python}" "$@"
"""


@dataclass
class Stage:
    root: Path  # stands for / of the image
    workdir: str = "/home/ray"  # as Ray's images have it

    def path(self, name: str) -> Path:
        """A path inside the image, relative to its work directory if it is not absolute."""
        return self.root / os.path.join(self.workdir, name).lstrip("/")


def steps(text: str) -> list[tuple[str, str]]:
    lines = re.sub(r"\\\n", " ", "\n".join(line for line in text.split("\n") if not line.startswith("#"))).split("\n")
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def copy(stage: Stage, arguments: list[str], sources: Stage) -> None:
    *names, target = arguments
    for name in names:
        found = [Path(p) for p in glob.glob(str(sources.path(name)))]
        assert found, f"COPY {name}: not there"
        for path in found:
            # As Docker does: the contents of a folder go into the target.
            if path.is_dir():
                skipped = shutil.ignore_patterns("__pycache__")
                shutil.copytree(path, stage.path(target), dirs_exist_ok=True, ignore=skipped)
            else:
                into = stage.path(target) / path.name if target.endswith("/") else stage.path(target)
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, into)


def build(recipe: Path, scratch: Path) -> Stage:
    """The last stage after all steps; what its pip installed is in `site` beside it."""
    (scratch / "bin").mkdir()
    for name, text in (("pip", PIP), ("uv", UV), ("python", PYTHON)):
        (scratch / "bin" / name).write_text(text.format(python=sys.executable))
        (scratch / "bin" / name).chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"PATH": f"{scratch}/bin:{os.environ['PATH']}", "SITE": str(scratch / "site")}
    stages, stage = {}, None
    for verb, rest in steps(recipe.read_text()):
        if verb == "FROM":
            stage = Stage(scratch / f"stage{len(stages)}")
            stage.path(".").mkdir(parents=True)
            stages[rest.split()[-1]] = stage
        elif verb == "WORKDIR":
            stage.workdir = rest
            assert stage.path(".").is_dir(), f"WORKDIR {rest} would be made by root; RUN mkdir first"
        elif verb == "COPY":
            words = shlex.split(rest)
            given = dict(w[2:].split("=", 1) for w in words if w.startswith("--"))
            paths = [w for w in words if not w.startswith("--")]
            copy(stage, paths, stages[given["from"]] if "from" in given else Stage(ROOT, ""))
        elif verb == "ARG":
            environment |= {rest.partition("=")[0]: ARGUMENTS.get(rest.partition("=")[0], rest.partition("=")[2])}
        elif verb == "RUN":
            subprocess.run(["sh", "-ec", rest], cwd=stage.path("."), env=environment, check=True)
        else:
            raise AssertionError(f"{recipe} has a step that this test does not know: {verb}")
    return stage


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Runs a command in the image's work directory, where only its own installation is found."""
    scratch = tmp_path_factory.mktemp("image")
    stage = build(ROOT / "deploy/Dockerfile", scratch)
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = str(scratch / "site")

    def call(*command: str) -> str:
        done = subprocess.run(command, cwd=stage.path("."), env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    call.workdir, call.site = stage.workdir, scratch / "site"
    assert not list(stage.path(".").iterdir())  # nothing but what runs leave
    return call


def manifests():
    return [(path, document) for path in MANIFESTS for document in yaml.safe_load_all(path.read_text())]


def values(node, key):
    """Every value of `key`, wherever it stands."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from [value] if name == key else values(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from values(value, key)


def test_the_manifests_start_in_the_images_work_directory(image):
    for path, manifest in manifests():
        found = set(values(manifest, "workingDir"))
        assert found == {image.workdir}, path
        assert "PYTHONPATH" not in path.read_text()  # what is installed needs none


def test_every_import_path_can_be_imported(image):
    paths = {
        app["import_path"]
        for _, manifest in manifests()
        for text in values(manifest, "serveConfigV2")
        for app in yaml.safe_load(text)["applications"]
    }
    assert paths
    for path in paths:
        module, _, name = path.partition(":")
        shown = image(sys.executable, "-c", f"import {module} as m; print(callable(m.{name}), m.__file__)")
        assert shown.split() == ["True", str(image.site / f"{module.replace('.', '/')}.py")]


def test_every_command_composes(image):
    commands = [(path, text) for path, manifest in manifests() for text in values(manifest, "entrypoint")]
    commands += [
        (path, line) for path in MANIFESTS for line in re.findall(r"^#\s+(photomaker .+)$", path.read_text(), re.M)
    ]
    assert {text.split()[1] for _, text in commands} == {"train", "keys"}
    for path, text in commands:
        program, command, *arguments = shlex.split(text)
        assert program == "photomaker" and (image.site / "bin/photomaker").exists(), path
        installed = [sys.executable, str(image.site / "bin/photomaker"), command]
        if command == "keys":
            image(*installed, *arguments)
        else:
            shown = yaml.safe_load(image(*installed, *arguments, "--cfg", "job"))
            assert shown["data"].startswith("/mnt/") and shown["base"]["path"]


def test_ray_ups_machines_install_what_they_mount():
    config = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
    (mounted,) = [target for target, source in config["file_mounts"].items() if source == "."]
    *before, install = config["setup_commands"]
    assert f"-e '{mounted}[cluster]'" in install and "constraints.txt" in install
    assert any("uv pip install" in command and "--torch-backend cu" in command for command in before)
    assert (ROOT / "setup.py").exists() and "/.venv" in str(config["rsync_exclude"])
