"""Pages of the Python API: one for each package of `pm` and `serving`, with all of its modules.

The packages are found by walking the folders and read by mkdocstrings without importing them, so a module that moves
needs no change here.
"""

import ast
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ROOMS = ("pm", "serving")


def packages() -> dict[str, list[str]]:
    """Dotted name of each package -> dotted names of its modules, both in alphabetical order."""
    found = {}
    for room in ROOMS:
        for init in sorted((ROOT / room).rglob("__init__.py"), key=lambda path: path.parts[:-1]):
            package = ".".join(init.parent.relative_to(ROOT).parts)
            names = (path.stem for path in sorted(init.parent.glob("*.py")))
            found[package] = [f"{package}.{name}" for name in names if not name.startswith("_")]
    return found


def page(package: str, modules: list[str]) -> str:
    """Markdown of one package: what its `__init__` says and offers, then each module."""
    init = ROOT.joinpath(*package.split("."), "__init__.py")
    tree = ast.parse(init.read_text(encoding="utf-8"))
    lines = [f"# {package}", "", ast.get_docstring(tree) or "", ""]
    offered = [
        f"- [`{alias.asname or alias.name}`][{node.module}.{alias.name}]"
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0 and node.module.startswith(ROOMS)
        for alias in node.names
        if not alias.name.startswith("_")
    ]
    if offered:
        lines += [f"`from {package} import …` gives:", "", *offered, ""]
    for module in modules:
        lines += [f"::: {module}", ""]
    return "\n".join(lines)


def path_of(package: str) -> str:
    """Where a package's page lies in the site's sources."""
    return f"api/{package}.md"


def on_config(config: Any) -> Any:
    """Fill the navigation's entry `Python API`."""
    reference = next(entry["Reference"] for entry in config.nav if "Reference" in entry)
    api = next(entry for entry in reference if "Python API" in entry)
    api["Python API"] = [{package: path_of(package)} for package in packages()]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages to the site."""
    from mkdocs.structure.files import File

    for package, modules in packages().items():
        files.append(File.generated(config, path_of(package), content=page(package, modules)))
    return files
