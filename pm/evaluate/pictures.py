"""Pictures of other systems, listed by a manifest or a folder's layout."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pm.data.captioning.words import folder_class_word
from pm.errors import DataError
from pm.evaluate.prompts import PromptText
from pm.manifest import manifest_rows
from pm.photo.pixels import PHOTO_SUFFIXES

_NAME = re.compile(r"(?P<prompt>\d+)-(?P<image>\d+)")
_NEEDED = ("picture", "method", "person", "prompt")


@dataclass(frozen=True)
class Listed:
    """One picture."""

    file: Path
    method: str
    person: str
    template: str
    image: int  # number among those of its method, person and prompt
    class_word: str
    category: str = ""


def from_folders(root: str | Path, prompts: Sequence[PromptText]) -> list[Listed]:
    """`<root>/<method>/<person>/<prompt>-<n>.png`: numbers from 0, of the prompt in `prompts` and of the image.

    Raises:
        DataError: nothing there, or a name that is not like that.
    """
    folder = Path(root).expanduser()
    found = []
    files = sorted(p for p in folder.glob("*/*/*") if p.suffix.lower() in PHOTO_SUFFIXES)
    for file in files:
        parts = _NAME.fullmatch(file.stem)
        if parts is None or int(parts["prompt"]) >= len(prompts):
            raise DataError(
                f"{file.absolute()} must be named <prompt>-<n>{file.suffix}, the prompt by its number from 0 to "
                f"{len(prompts) - 1}; rename it, or list the pictures in a manifest (suite.manifest=...)"
            )
        prompt, person = prompts[int(parts["prompt"])], file.parent.name
        found.append(
            Listed(
                file, file.parent.parent.name, person, prompt.template, int(parts["image"]), folder_class_word(person),
                prompt.category,
            )
        )  # fmt: skip
    if not found:
        raise DataError(f"no pictures below {folder.absolute()}; the layout is <method>/<person>/<prompt>-<n>.png")
    return found


def from_manifest(path: str | Path) -> list[Listed]:
    """A CSV or JSONL file with a row for each picture: picture, method, person, prompt; class_word, category if known.

    Paths are relative to the manifest. Images of one method, person and prompt are numbered in the order of the rows.

    Raises:
        DataError: it cannot be read, a row lacks something, or pictures are missing; all of these are named.
    """
    file = Path(path).expanduser()
    found, wrong, count = [], [], dict[tuple[str, str, str], int]()
    for number, row in manifest_rows(file, _NEEDED, DataError):
        lacking = [name for name in _NEEDED if not str(row.get(name) or "").strip()]
        if lacking:
            wrong.append(f"row {number} has no {' and no '.join(lacking)}")
            continue
        picture = file.parent / Path(str(row["picture"])).expanduser()
        if not picture.is_file():
            wrong.append(f"row {number}: {picture} does not exist")
            continue
        method, person, prompt = (str(row[name]).strip() for name in _NEEDED[1:])
        key = (method, person, prompt)
        count[key] = count.get(key, -1) + 1
        word = str(row.get("class_word") or "") or folder_class_word(person)
        found.append(Listed(picture, *key, count[key], word, str(row.get("category") or "")))
    if wrong:
        raise DataError(f"manifest {file.absolute()}: {'; '.join(wrong[:5])}{_more(wrong, 5)}")
    if not found:
        raise DataError(f"manifest {file.absolute()} lists no picture")
    return found


def check_even(pictures: Sequence[Listed]) -> None:
    """Every method must have the same pictures: means over different people and prompts cannot be compared.

    Raises:
        DataError: names what is missing.
    """
    most: dict[tuple[str, str], int] = {}
    for p in pictures:
        most[p.person, p.template] = max(most.get((p.person, p.template), 0), p.image)
    asked = {(*key, n) for key, last in most.items() for n in range(last + 1)}
    missing = []
    for method in dict.fromkeys(p.method for p in pictures):
        own = {(p.person, p.template, p.image) for p in pictures if p.method == method}
        missing += [f"{method} has no picture {n} of {who} for {what!r}" for who, what, n in sorted(asked - own)]
    if missing:
        raise DataError(f"pictures are missing: {'; '.join(missing[:5])}{_more(missing, 5)}")


def _more(items: Sequence[Any], shown: int) -> str:
    return f"; and {len(items) - shown} more" if len(items) > shown else ""
