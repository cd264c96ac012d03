"""Where the files that come with the project are: at the top of a checkout, or inside `pm` once it is installed."""

from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "_resources"  # written by setup.py into the wheel


def checkout() -> Path | None:
    """The root of the checkout that this code runs from; None where it is installed."""
    return None if _INSTALLED.is_dir() else _PACKAGE.parent


def resource(path: str) -> Path:
    """A file or folder that comes with the project.

    Args:
        path: relative to the top of the repository: `conf`, `assets/toon`, `serving/config.yaml`.
    """
    if path.split("/")[0] in ("conf", "assets"):
        return (_INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent) / path
    return _PACKAGE.parent / path


def conf_choices(group: str) -> dict[str, str]:
    """The YAML files of a group by name, each with the package that brings it; "": ours."""
    folders = {"": Path(resource("conf"))}
    for package in conf_packages():
        try:
            folders[package.partition(".")[0]] = Path(str(files(package)))
        except ImportError:  # half uninstalled; composing will say so
            continue
    found = ((path.stem, owner) for owner, folder in folders.items() for path in (folder / group).glob("*.yaml"))
    named: dict[str, str] = {}
    for name, owner in sorted(found):  # ours is found first
        named.setdefault(name, owner)
    return named


def conf_packages() -> list[str]:
    """Packages with a tree like `conf/`, of installed distributions with an entry point in `photomaker.conf`.

    The entry point's name is free; its value is the package: `[project.entry-points."photomaker.conf"]`,
    `my_parts = "my_parts.conf"`.
    """
    return sorted({point.value for point in entry_points(group="photomaker.conf")})
