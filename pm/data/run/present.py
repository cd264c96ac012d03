"""The dataset that is there already, as far as the next one depends on it: edits, removals, of what it was made."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pm.data.config import PreprocessConfig
from pm.data.dataset.settings import changes as changed_settings
from pm.data.dataset.swap import settle
from pm.data.dataset.writer import WORK
from pm.data.edits.effects import effects_of
from pm.data.edits.file import read_edits
from pm.data.records import META_FILE, SOURCES_FILE, read_meta
from pm.data.source.changes import Changes, digest_of, rows_of
from pm.data.source.rules import Rules
from pm.errors import DataError


@dataclass(frozen=True)
class Present:
    """What there is in the output folder."""

    output: Path
    meta: Mapping[str, Any]  # dataset.json; empty: no finished dataset
    sources: Path | None  # the files that it was made of; None: nobody knows, or nobody asks
    moved: bool  # its photos were somewhere else

    @property
    def noted(self) -> dict[str, Any]:
        """What the next `dataset.json` says too."""
        return {"removals": self.meta["removals"]} if self.meta.get("removals") else {}

    def rules(self, config: PreprocessConfig) -> Rules:
        """What is said about the photos elsewhere than in their source."""
        people: set[str] = set()
        photos: list[str] = []
        for removal in self.meta.get("removals", ()):
            if removal["what"] == "identity":
                people |= {removal["sha256"], *removal.get("folders", ())}
            else:
                photos.append(removal["sha256"])
            photos += removal.get("contents", ())
        return Rules(
            effects=effects_of(read_edits(self.output).applied),
            purpose=config.purpose if config.consent == "required" else None,
            gone_people=frozenset(people),
            gone_photos=tuple(photos),
            same_place=not self.moved,
        )

    def unfinished(self, digest: str, overwrite: bool) -> Path | None:
        """The list of photos that an unfinished dataset began with, if it is another than that of this digest."""
        kept = self.output / WORK / SOURCES_FILE
        if self.meta or overwrite or not kept.exists():
            return None
        return kept if digest_of(rows_of(pq.read_table(kept))) != digest else None

    def grows(self, settings: Mapping[str, Any], changes: Changes | None) -> Changes | None:
        """The changes, if the people concerned are all that has to be done again.

        Raises:
            DataError: the photos are somebody else's, mostly.
        """
        if not self.meta:
            return None
        differ = {change.name for change in changed_settings(self.meta["settings"], settings)}
        if changes is None:
            if self.moved and "photos" in differ:
                raise DataError(
                    f"output={self.output.absolute()} was made of other photos than there are now; use overwrite=true "
                    "to make it anew of these, or another output folder"
                )
            return None
        if self.moved and 2 * changes.left < changes.before:
            raise DataError(
                f"output={self.output.absolute()} was made of other photos than there are now: of {changes.before} "
                f"there are {changes.left} ({changes.text()}); use overwrite=true to make it anew of "
                "these, or another output folder"
            )
        # Whether a consent is required is part of what is noted of each photo.
        return changes if (changes or differ) and differ <= {"photos", "consent"} else None


def present(config: PreprocessConfig) -> Present:
    """Look at the output folder, which the caller has locked.

    Raises:
        DataError: it has a dataset or edits that cannot be read.
    """
    output, meta = Path(config.output), {}
    settle(output)
    if (output / META_FILE).exists():
        try:
            meta = read_meta(output)
        except DataError:
            if not config.overwrite:
                raise
    sources = output / SOURCES_FILE
    then = meta.get("config", {}).get("dataset", {}).get("root")
    moved = then is not None and str(then) != str(config.dataset.root)
    there = bool(meta) and not config.overwrite and sources.exists()
    return Present(output, meta, sources if there else None, moved)
