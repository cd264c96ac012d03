"""A manifest of pictures to make: a row each with photos, prompt, seeds and a name. Reading only."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pm.errors import RequestError
from pm.manifest import manifest_rows
from pm.strengths import strengths

_SEEDS = re.compile(r"(\d+)(?:-(\d+))?")
_NAME = re.compile(r"[^\s/\\.][^/\\\x00]*")
_MOST_SEEDS = 10_000  # of a row


@dataclass(frozen=True)
class ManifestRow:
    """One row: a picture for each seed."""

    number: int  # in the file, for messages
    photos: tuple[str, ...]  # files, folders or patterns
    prompt: str
    seeds: tuple[int, ...]
    name: str  # of the pictures' files, without suffix
    loras: Mapping[str, float] = field(default_factory=dict)  # by their places, besides those of the settings

    def file(self, seed: int) -> str:
        """`<name>.png`, or `<name>-<seed>.png` where there are several."""
        return f"{self.name}.png" if len(self.seeds) == 1 else f"{self.name}-{seed}.png"


def read_manifest(path: str | Path) -> tuple[list[ManifestRow], dict[int, str]]:
    """The rows of a CSV or JSONL file with `photos`, `prompt`, `seeds` (or `seed`) and `output`.

    Several photos are separated by semicolons (in JSONL: a list), and are relative to the manifest; seeds are like
    `0-3` or `1;5;7`. A column `loras` may name LoRAs with strengths, `style.safetensors:0.8;other.safetensors`: where
    there is such a file beside the manifest, it is meant.

    Returns:
        The rows that can be read, and what is wrong with each of the others.

    Raises:
        RequestError: the file cannot be read, or lacks a column.
    """
    file = Path(path).expanduser()
    rows, wrong, taken = [], {}, dict[str, int]()
    for number, values in manifest_rows(file, ("photos", "prompt", "output"), RequestError):
        try:
            row = _row(number, values, file.parent)
            for seed in row.seeds:
                other = taken.setdefault(row.file(seed), number)
                if other != number:
                    raise RequestError(f"its picture {row.file(seed)} is that of row {other}; give another output")
            rows.append(row)
        except RequestError as error:
            wrong[number] = str(error)
    if not rows and not wrong:
        raise RequestError(f"manifest {file.absolute()} has no row")
    return rows, wrong


def _row(number: int, values: dict[str, Any], folder: Path) -> ManifestRow:
    photos = values.get("photos") or ()
    places = photos.split(";") if isinstance(photos, str) else [str(photo) for photo in photos]
    places = [str(folder / Path(place.strip()).expanduser()) for place in places if place.strip()]
    prompt, name = str(values.get("prompt") or "").strip(), str(values.get("output") or "").strip()
    if not prompt:
        raise RequestError("it has no prompt")
    name = name.removesuffix(".png")
    if not _NAME.fullmatch(name):
        raise RequestError(f"output={name!r} is no name of a file; give one without folders, for example anna_red")
    seeds = values.get("seeds", values.get("seed"))
    return ManifestRow(number, tuple(places), prompt, _seeds(seeds), name, _loras(values.get("loras"), folder))


def _loras(value: Any, folder: Path) -> dict[str, float]:
    if isinstance(value, str):
        value = [item for item in value.split(";") if item.strip()]
    beside = {name: folder / Path(name).expanduser() for name in strengths(value)}
    return {str(beside[name] if beside[name].exists() else name): s for name, s in strengths(value).items()}


def _seeds(value: Any) -> tuple[int, ...]:
    parts = value if isinstance(value, list) else str("0" if value in (None, "") else value).split(";")
    seeds: list[int] = []
    for part in parts:
        found = _SEEDS.fullmatch(str(part).strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if last < first or last - first >= _MOST_SEEDS:
            raise RequestError(f"seeds={value!r} must be like 0, 0-3 or 1;5;7")
        seeds += range(first, last + 1)
    return tuple(dict.fromkeys(seeds))
