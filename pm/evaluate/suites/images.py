"""The images suite: pictures that somebody else's system made, of any number of systems side by side."""

import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pm.errors import ConfigError, DataError
from pm.evaluate.people import Person, read_person
from pm.evaluate.pictures import Listed, check_even, from_folders, from_manifest
from pm.evaluate.prompts import read_prompts, spread
from pm.evaluate.suites.base import Given, SuiteChoice, Trial
from pm.photo.pixels import encode_png, read_photo
from pm.photo.stored import Preparation


@dataclass(frozen=True)
class ImagesSuite(SuiteChoice):
    """Scores what is there; no base is loaded and no picture made."""

    root: str | None  # <root>/<method>/<person>/<prompt>-<n>.png
    manifest: str | None  # or a CSV or JSONL file with a row for each picture
    people: str | None  # folder with photos of the people, as in the photos suite; None: only the prompt is judged
    prompts: str  # file; for `root`
    photo: Preparation  # how the people's photos are prepared

    makes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if (self.root is None) == (self.manifest is None):
            raise ConfigError(
                "suite=images needs either suite.root=<folder> (<method>/<person>/<prompt>-<n>.png) or "
                "suite.manifest=<CSV or JSONL file>"
            )

    def title(self) -> str:
        return "Evaluation of given pictures"

    def trials(self) -> list[Trial]:
        people = {name: self._person(name) for name in dict.fromkeys(name for name, _ in self._asked)}
        names = {name: re.sub(r"[^\w.-]+", "_", name) for name in people}
        if len(set(names.values())) != len(people):
            raise DataError(f"the names of people are too alike for folders: {', '.join(sorted(people))}; rename them")
        trials = []
        for (name, _), pictures in self._asked.items():
            first, person = pictures[0], people[name]
            shown, held_out = (person.references, person.held_out) if person else ((), ())
            seeds = tuple(range(max(p.image for p in pictures) + 1))
            trials.append(Trial(names[name], first.class_word, first.template, shown, held_out, seeds, first.category))
        return trials

    def given(self, trials: Sequence[Trial]) -> list[Given]:
        rows = []
        for method in dict.fromkeys(p.method for p in self._pictures):
            own = {(p.person, p.template, p.image): p.file for p in self._pictures if p.method == method}
            files = {(t, n): own[(*key, n)] for t, key in enumerate(self._asked) for n in range(len(trials[t].seeds))}
            stats = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files.values()]
            digest = hashlib.sha256(repr(stats).encode()).hexdigest()[:16]
            rows.append(Given(method, digest, functools.partial(_png, files)))
        return rows

    @functools.cached_property
    def _asked(self) -> dict[tuple[str, str], list[Listed]]:
        """The pictures of each person and prompt, those of a person in a row."""
        groups: dict[tuple[str, str], list[Listed]] = {}
        order = list(dict.fromkeys(picture.person for picture in self._pictures))
        for picture in sorted(self._pictures, key=lambda picture: order.index(picture.person)):
            groups.setdefault((picture.person, picture.template), []).append(picture)
        return groups

    @functools.cached_property
    def _pictures(self) -> list[Listed]:
        if self.manifest is not None:
            found = from_manifest(self.manifest)
        else:
            prompts = spread(read_prompts(self.prompts), self.protocol.prompts)
            found = from_folders(str(self.root), prompts)
        check_even(found)
        return found

    def _person(self, name: str) -> Person | None:
        if self.people is None:
            return None
        place = Path(self.people).expanduser() / name
        if not place.is_dir():
            raise DataError(f"people: there is no folder {place.absolute()} with photos of {name}")
        return read_person(place, self.photo, max(self.protocol.references))

    def about(self) -> dict:
        asked = sorted({(p.person, p.template, p.image) for p in self._pictures})
        return {"suite": self.name, "asked": hashlib.sha256(repr(asked).encode()).hexdigest()[:16]}


def _png(files: dict[tuple[int, int], Path], trial: int, image: int) -> bytes:
    file = files[trial, image]
    try:
        return encode_png(read_photo(file))
    except (OSError, ValueError) as error:
        raise DataError(
            f"picture {file.absolute()} cannot be read ({error}); make it again, or leave it out"
        ) from error
