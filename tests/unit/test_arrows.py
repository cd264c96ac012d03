"""Small rooms, one-way arrows: who may import whom, and how long a file or a function may get."""

import ast
import functools
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(p for room in ("pm", "pipelines", "serving") for p in (ROOT / room).rglob("*.py"))
RAY_ROOMS = {
    "pm/ray_env.py",
    "pm/ray_pool.py",
    "pm/data/run/graph.py",
    "pm/train/run/launch.py",
    "pm/train/run/failures.py",
    "pm/train/run/context.py",
    "pm/train/run/plan.py",
    "pm/train/run/trainer.py",
}
# room → what nothing in it may import
FORBIDDEN = {
    "pm": ("pipelines", "serving", "hydra", "omegaconf", "torchvision"),
    "pm/data": ("pm.train", "pm.sample", "pm.evaluate"),
    "pm/model": ("pm.train", "pm.sample", "pm.evaluate", "pm.data"),
    "pm/photo": ("pm.train", "pm.sample", "pm.evaluate", "pm.data"),
    "pm/sample": ("pm.train", "pm.evaluate", "pm.data", "pm.methods"),
    "pm/toon": ("pm.train", "pm.sample", "pm.evaluate", "pm.data", "pm.model"),
    "pm/train": ("pm.evaluate", "pm.methods"),
    "pm/methods": ("pm.evaluate",),
    "pm/protect": ("pm.train", "pm.evaluate", "pm.methods"),
    "pm/hub": ("pm.train", "pm.sample", "pm.evaluate", "pm.methods"),
    "serving": ("pipelines", "pm.train", "pm.evaluate", "pm.data"),
    "serving/http": ("serving.engine", "pm.sample", "pm.model", "ray", "torch"),
    "serving/engine": ("serving.http", "fastapi", "starlette"),
}

# Part of a program above the rooms: `python -m pm.toon.pretrain` makes the base and its first adapter.
EXCEPT = {("pm/toon", "pm/toon/pretrain/align.py")}


@functools.cache
def trees() -> dict[str, ast.Module]:
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in FILES}


@functools.cache
def imports() -> dict[str, set[str]]:
    return {name: imported(tree) for name, tree in trees().items()}


def imported(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return names


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("room", FORBIDDEN)
def test_arrows(room):
    bad = [
        f"{file} imports {name}"
        for file, names in imports().items()
        if file.startswith(room + "/") and (room, file) not in EXCEPT
        for name in sorted(names)
        if any(within(name, forbidden) for forbidden in FORBIDDEN[room])
    ]
    assert not bad


def test_ray_only_where_marked():
    users = {file for file, names in imports().items() if any(within(name, "ray") for name in names)}
    assert {file for file in users if file.startswith("pm/")} == RAY_ROOMS


def test_no_circles():
    """No file imports itself through others; imports inside functions count, those for type checkers do not."""
    graph = {
        file: {target for name in names if (target := as_file(name))} - {file} for file, names in runtime().items()
    }
    order = graphlib.TopologicalSorter(graph)
    try:
        order.prepare()
    except graphlib.CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_tests_import_no_other_test():
    """What two of them need is in `tests/support`."""
    bad = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for name in imported(ast.parse(path.read_text())):
            if any(part.startswith("test_") or part == "conftest" for part in name.split(".")):
                bad.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not bad


def as_file(name: str) -> str | None:
    """The file of ours that an imported name is, or is in."""
    for dotted in (name, name.rpartition(".")[0]):
        for path in (dotted.replace(".", "/") + ".py", dotted.replace(".", "/") + "/__init__.py"):
            if path in trees():
                return path
    return None


def runtime() -> dict[str, set[str]]:
    """Imports without those under `if TYPE_CHECKING:`."""
    found = {}
    for file, tree in trees().items():
        skip = {
            id(child)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for child in ast.walk(node)
        }
        body = [node for node in ast.walk(tree) if id(node) not in skip]
        found[file] = imported(ast.Module(body=[n for n in body if isinstance(n, ast.Import | ast.ImportFrom)]))
    return found


def test_nothing_is_too_long():
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    long = []
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, functions) and node.end_lineno - node.lineno >= 60:
                long.append(f"{file}: {node.name} is longer than 60 lines")
        room, _, name = file.rpartition("/")
        most = 300 if room != "pipelines" else 90 if name.startswith("_") else 60
        if len((ROOT / file).read_text().splitlines()) > most:
            long.append(f"{file} is longer than {most} lines")
    assert not long
