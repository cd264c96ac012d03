"""What there is below a folder that can know a person: datasets, adapters and runs, evaluations, pages."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pm.data.records import META_FILE
from pm.errors import ConfigError
from pm.protect.people import PEOPLE_FILE, Record, adapter_head, read_people

PAGE = b"identity dataset</title>"  # of `photomaker browse`
_HEAD = 65536  # bytes in which a page's title is
_SKIPPED = ("_redo", "_forget", "_work", "node_modules", "__pycache__", "site-packages")


@dataclass
class Places:
    """Paths of each kind, sorted."""

    datasets: list[Path] = field(default_factory=list)
    adapters: dict[Path, list[Record] | None] = field(default_factory=dict)  # files and runs → who went into them
    evaluations: list[Path] = field(default_factory=list)
    pages: list[Path] = field(default_factory=list)


def places_below(folder: str | Path) -> Places:
    """Everything below a folder; hidden folders are passed over, links not followed.

    Raises:
        ConfigError: there is no such folder.
    """
    root, found = Path(folder), Places()
    if not root.is_dir():
        raise ConfigError(f"{root.absolute()} is not a folder; give the one that datasets and runs are in")
    for path, names in _folders(root):
        if META_FILE in names:
            found.datasets.append(path)
        if PEOPLE_FILE in names:
            found.adapters[path] = read_people(path)
        if path.name == "pictures" and any((path / name / "made.json").exists() for name in os.listdir(path)):
            found.evaluations.append(path.parent)
        for name in sorted(names):
            if name.endswith(".safetensors") and adapter_head(path / name) is not None:
                found.adapters[path / name] = read_people(path / name)
            elif name.endswith(".html") and is_page(path / name):
                found.pages.append(path / name)
    return found


def is_page(path: Path) -> bool:
    """Is it a page of `photomaker browse`?"""
    try:
        with open(path, "rb") as file:
            return PAGE in file.read(_HEAD)
    except OSError:
        return False


def _folders(root: Path) -> Iterator[tuple[Path, set[str]]]:
    for path, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
        yield Path(path), set(names)
