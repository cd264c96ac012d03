"""People on disk: a folder each, with reference photos and held-out photos.

<root>/anna_woman/*.jpg                        the first N that can be used, by name, are references
<root>/anna_woman/references/, held_out/       or as the folders say
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pm.data.captioning.words import class_word_in
from pm.errors import DataError, RequestError
from pm.methods.trial import Photo
from pm.model.class_words import CLASS_WORDS
from pm.photo.pixels import PHOTO_SUFFIXES
from pm.photo.sidecar import parse_sidecar
from pm.photo.stored import Preparation
from pm.photo.types import SidecarError
from pm.sample.identity import load_references


@dataclass(frozen=True)
class Person:
    """Somebody with prepared photos."""

    name: str
    class_word: str
    references: tuple[Photo, ...]
    held_out: tuple[Photo, ...]


def read_people(root: str | Path, how: Preparation, references: int, most: int | None = None) -> list[Person]:
    """Everybody in a folder, sorted by name, with photos prepared: face, crop, mask.

    Args:
        root: a folder of people.
        how: photos are prepared.
        references: photos of each person that methods are shown.
        most: people; None: all.

    Raises:
        DataError: nobody there, or somebody with fewer photos than that. Photos without a usable face are left out, as
            long as enough others remain, and named.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"people: {folder.absolute()} is no folder; give one with a folder for each person")
    places = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not places:
        raise DataError(f"people: {folder.absolute()} has no folder of a person in it")
    return [read_person(place, how, references) for place in places[:most]]


def read_person(place: Path, how: Preparation, references: int) -> Person:
    """One person of `read_people`; raises what that raises."""
    own, other = place / "references", place / "held_out"
    flat = not own.is_dir()
    first = _photos(place if flat else own)
    shown = _usable(first, how, place)
    if len(shown) < references:
        raise DataError(
            f"{place.name} has {len(shown)} photos that can be used as references of {len(first)} in "
            f"{(place if flat else own).absolute()}, protocol.references asks for {references}; add photos, or ask for "
            "fewer"
        )
    held_out = shown[references:] if flat else _usable(_photos(other), how, place)
    return Person(place.name, _class_word(place, first), tuple(shown[:references]), tuple(held_out))


def _photos(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)


def _usable(paths: Sequence[Path], how: Preparation, place: Path) -> list[Photo]:
    photos = []
    for path in paths:
        name = f"{place.name}/{path.relative_to(place).as_posix()}"
        try:
            (found,) = load_references([path], how.face, how.mask, how.crop, strict=True)
        except RequestError as error:
            print(f"note: {name} is left out: {error}", flush=True)
            continue
        mask = None if found.mask is None else np.asarray(found.mask.convert("L")) >= 128
        photos.append(Photo(np.asarray(found.image), mask, name))
    return photos


def _class_word(place: Path, photos: Sequence[Path]) -> str:
    """By the folder's name, else by what is beside the first photo, else "person"."""
    if word := class_word_in(place.name):
        return word
    try:
        beside = parse_sidecar(photos[0].with_suffix(".json").read_bytes()) if photos else {}
    except (OSError, SidecarError, json.JSONDecodeError):
        beside = {}
    word = str(beside.get("class_word", "")).lower()
    return word if word in CLASS_WORDS else "person"
