"""Small rooms, one-way arrows: who may import whom, and how long a file or a function may get."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(p for room in ("pm", "pipelines", "serving") for p in (ROOT / room).rglob("*.py"))
RAY_ROOMS = {
    "pm/ray_env.py",
    "pm/data/build.py",
    "pm/train/launch.py",
    "pm/train/failures.py",
    "pm/train/context.py",
    "pm/train/plan.py",
}
# room → what nothing in it may import
FORBIDDEN = {
    "pm": ("pipelines", "serving", "hydra", "omegaconf", "torchvision"),
    "pm/data": ("pm.train", "pm.sample", "pm.evaluate"),
    "pm/model": ("pm.train", "pm.sample", "pm.evaluate", "pm.data"),
    "pm/sample": ("pm.train", "pm.evaluate"),
    "pm/toon": ("pm.train", "pm.sample", "pm.evaluate", "pm.data", "pm.model"),
    "pm/train": ("pm.evaluate",),
    "serving": ("pipelines", "pm.train", "pm.evaluate"),
}

# Part of a program above the rooms: `python -m pm.toon.pretrain` makes the base and its first adapter.
EXCEPT = {("pm/toon", "pm/toon/pretrain/align.py")}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return names


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows(path):
    relative = path.relative_to(ROOT).as_posix()
    for room, forbidden in FORBIDDEN.items():
        if relative.startswith(room + "/") and (room, relative) not in EXCEPT:
            bad = [n for n in imports(path) for f in forbidden if within(n, f)]
            assert not bad, f"{relative} imports {bad}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_ray_only_where_marked(path):
    relative = path.relative_to(ROOT).as_posix()
    if relative.startswith("pm/") and relative not in RAY_ROOMS:
        assert not [n for n in imports(path) if within(n, "ray")], relative


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_too_long(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{node.name} is longer than 60 lines"
    if path.parent.name == "pipelines":
        assert len(text.splitlines()) <= (90 if path.name.startswith("_") else 60)
