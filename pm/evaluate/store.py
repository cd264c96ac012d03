"""Pictures, states and values of an evaluation on disk: what is finished is kept, if it is of these settings.

<output>/pictures/<row>/made.json               which weights and settings the pictures are of
<output>/pictures/<row>/<person>/<trial>-<n>.png
<output>/pictures/<row>/cost.jsonl              seconds and memory of each piece of work
<output>/states/<row>/<person>.pt               what a method made once for a person
<output>/values/<row>/<metric>.json and .npz
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pm.errors import DataError
from pm.evaluate.fingerprints import Fingerprints
from pm.files import write_bytes, write_json
from pm.methods.trial import Trial
from pm.photo.pixels import read_photo

Item = tuple[int, int]  # number of the trial, number of its image


class Store:
    """One output folder."""

    def __init__(self, output: str | Path, trials: Sequence[Trial]) -> None:
        """`trials`: of the suite, in their order."""
        self.output, self.trials = Path(output), trials
        self._fingerprints = Fingerprints(trials)
        count: Counter[str] = Counter()
        self._numbers = []  # of each trial among those of its person
        for trial in trials:
            self._numbers.append(count[trial.person])
            count[trial.person] += 1

    def begin(self, key: str, made_with: Mapping[str, Any]) -> bool:
        """Make the row's folder ready; pictures that were made with something else are removed.

        Args:
            key: of the row.
            made_with: all that its pictures depend on, as plain values.

        Returns:
            Whether pictures of other settings were removed.
        """
        file = self.output / "pictures" / key / "made.json"
        wanted, found = json.loads(json.dumps(made_with)), _read(file)
        if found == wanted:
            return False
        there = file.exists()
        for folder in ("pictures", "states", "values"):
            shutil.rmtree(self.output / folder / key, ignore_errors=True)
        write_json(file, wanted, indent=2)
        return there

    def same(self, key: str, made_with: Mapping[str, Any]) -> bool:
        """Whether the row's pictures are of these settings."""
        return bool(_read(self.output / "pictures" / key / "made.json") == json.loads(json.dumps(made_with)))

    def path(self, key: str, item: Item) -> Path:
        trial, image = item
        name = f"{self._numbers[trial]:02d}-{image}.png"
        return self.output / "pictures" / key / self.trials[trial].person / name

    def items(self) -> list[Item]:
        """Every picture that is asked for, in the order of the trials."""
        return [(t, n) for t, trial in enumerate(self.trials) for n in range(len(trial.seeds))]

    def missing(self, key: str) -> set[Item]:
        return {item for item in self.items() if not self.path(key, item).is_file()}

    def fingerprints(self, key: str) -> list[str | None]:
        """Of each trial, what its values depend on: the pictures as they are, the photos and the prompt; None where a
        picture is missing."""
        found: list[str | None] = []
        for t, trial in enumerate(self.trials):
            try:
                files = [self.path(key, (t, n)).read_bytes() for n in range(len(trial.seeds))]
            except OSError:
                found.append(None)
                continue
            found.append(self._fingerprints.of_values(t, [hashlib.sha256(file).digest() for file in files]))
        return found

    def made_of(self) -> str:
        """Of all trials, what their pictures depend on beside the method."""
        return self._fingerprints.of_pictures()

    def save(self, key: str, item: Item, png: bytes) -> None:
        write_bytes(self.path(key, item), png, sync=False)

    def read(self, key: str, item: Item) -> np.ndarray:
        """A picture, uint8 [H, W, 3].

        Raises:
            DataError: it is damaged.
        """
        path = self.path(key, item)
        try:
            return read_photo(path)
        except (OSError, ValueError) as error:
            raise DataError(
                f"picture {path.absolute()} cannot be read ({error}); remove it, and the same command makes it again"
            ) from error

    def state_path(self, key: str, person: str) -> Path:
        return self.output / "states" / key / f"{person}.pt"

    def note_about(self, key: str, about: Mapping[str, Any]) -> None:
        """Remember what the method says of itself."""
        file = self.output / "pictures" / key / "about.json"
        if not file.is_file():
            write_json(file, dict(about), sync=False)

    def about(self, key: str) -> dict[str, Any]:
        return _read(self.output / "pictures" / key / "about.json") or {}

    def note_cost(self, key: str, **values: float) -> None:
        """Remember what a piece of work took."""
        file = self.output / "pictures" / key / "cost.jsonl"
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")

    def costs(self, key: str) -> list[dict[str, float]]:
        """Of all pieces; a line that was cut short is none."""
        file, found = self.output / "pictures" / key / "cost.jsonl", []
        for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
