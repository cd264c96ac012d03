"""The rows of a report: which method with how many photos, or whose pictures."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pm.errors import CheckpointError
from pm.methods.base import MethodChoice
from pm.methods.photomaker import PhotoMakerMethod


@dataclass(frozen=True)
class Entry:
    """A row."""

    key: str  # unique, and safe as a folder's name
    label: str
    choice: MethodChoice | None  # None: its pictures are given
    references: int | None  # None: it uses none


def find_adapters(paths: Sequence[str]) -> list[Path]:
    """Adapter files in the order given; a folder stands for every `adapter.safetensors` below it.

    Raises:
        CheckpointError: a path does not exist, or a folder holds no adapter.
    """
    found = []
    for path in map(Path, paths):
        files = [path] if path.is_file() else sorted(path.rglob("adapter.safetensors"))
        if not files:
            raise CheckpointError(
                f"no adapter at {path.absolute()}; give a file, or a folder with an adapter.safetensors in it"
            )
        found += files
    return found


def entries_of(methods: Sequence[MethodChoice], adapters: Sequence[str], references: Sequence[int]) -> list[Entry]:
    """The rows of the methods in their order, then those of the adapters.

    Args:
        methods: chosen in the configuration.
        adapters: rows of the method photomaker, as `find_adapters` finds them.
        references: numbers of photos; a row each for every method that uses them.

    Raises:
        CheckpointError: there is no adapter where one is named.
    """
    choices = [*methods, *(PhotoMakerMethod("photomaker", str(path)) for path in find_adapters(adapters))]
    rows: list[tuple[str, MethodChoice, int | None]] = []
    for label, choice in zip(_labels(choices), choices, strict=True):
        if not choice.needs_references:
            rows.append((label, choice, None))
            continue
        for count in sorted(references):
            rows.append((f"{label}, {count} reference{'s' * (count > 1)}", choice, count))
    keys = unique_keys([label for label, _, _ in rows])
    return [Entry(key, *row) for key, row in zip(keys, rows, strict=True)]


def unique_keys(labels: Sequence[str]) -> list[str]:
    """Names of folders, all different, that are as near to the labels as can be."""
    keys: list[str] = []
    for label in labels:
        plain = re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-").lower()[-80:] or "row"
        same = sum(key == plain or key.startswith(f"{plain}--") for key in keys)
        keys.append(f"{plain}--{same + 1}" if same else plain)
    return keys


def _labels(choices: Sequence[MethodChoice]) -> list[str]:
    """Short names that differ: of adapters the folder, and the folder above it too where needed."""
    labels = [choice.label() for choice in choices]
    twice = {label for label in labels if labels.count(label) > 1}
    for i, choice in enumerate(choices):
        if labels[i] in twice and choice.files():
            labels[i] = str(Path(choice.files()[0]).parent)
    return labels
