"""Who is where: the people of datasets with their consents, and which adapters saw them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pm.data.consent.record import MISSING, Consent
from pm.data.records import INDEX_FILE, REJECTS_FILE, SOURCES_FILE, read_meta
from pm.data.source.listing import from_json
from pm.errors import counted
from pm.protect.people import Record, number_of, saw
from pm.protect.places import Places


@dataclass(frozen=True)
class Person:
    """One person of one dataset."""

    person: str
    dataset: str
    kept: int  # photos
    rejected: int
    consent: dict[str, int]  # photos by state: valid, missing, expired, withdrawn, not_yet, other_purpose
    by: tuple[str, ...]  # who gave it
    until: str | None  # the first day after which a consent no longer holds; None: none ends
    adapters: tuple[str, ...]  # that saw the person


@dataclass(frozen=True)
class Audit:
    """Everything found."""

    people: tuple[Person, ...]
    datasets: dict[str, int]  # path → people who were removed from it
    adapters: dict[str, int | None]  # path → people who went into it; None: it does not say

    def json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def text(self) -> str:
        """For the terminal: a line for each person in each dataset, then the adapters."""
        lines = []
        for path, removed in self.datasets.items():
            gone = f"; {counted(removed, 'removal')}" if removed else ""
            theirs = [person for person in self.people if person.dataset == path]
            lines.append(f"{path}: {counted(len(theirs), 'person', 'people')}{gone}")
            lines += [f"  {_line(person)}" for person in theirs]
        for path, number in self.adapters.items():
            who = "does not say whom it saw" if number is None else f"saw {counted(number, 'person', 'people')}"
            lines.append(f"{path}: {who}")
        return "\n".join(lines) or "no datasets and no adapters there"


def _line(person: Person) -> str:
    states = ", ".join(f"{state.replace('_', ' ')} {number}" for state, number in person.consent.items())
    photos = f"{person.kept} photos kept, {person.rejected} rejected"
    until = f" until {person.until}" if person.until else ""
    by = f" by {', '.join(person.by)}" if person.by else ""
    adapters = f"; in {', '.join(person.adapters)}" if person.adapters else ""
    return f"{person.person}: {photos}; consent {states}{by}{until}{adapters}"


def audit(places: Places, *, who: str | None = None, today: date | None = None) -> Audit:
    """Look at everything.

    Args:
        places: where.
        who: only this person; None: everybody.
        today: the day on which consents are looked at; None: this one.

    Raises:
        DataError: a dataset is damaged.
    """
    day = today or datetime.now(UTC).date()
    people, datasets = [], {}
    for path in places.datasets:
        meta = read_meta(path)
        datasets[str(path)] = len(meta.get("removals", ()))
        people += _people(path, meta, places.adapters, who, day)
    adapters = {str(path): None if records is None else number_of(records) for path, records in places.adapters.items()}
    return Audit(tuple(people), datasets, adapters)


def _people(
    path: Path, meta: Mapping[str, Any], adapters: Mapping[Path, Sequence[Record] | None], who: str | None, day: date
) -> list[Person]:
    kept, rejected = (
        Counter(pq.read_table(path / name, columns=["identity"]).column("identity").to_pylist())
        for name in (INDEX_FILE, REJECTS_FILE)
    )
    consents = _consents(path)
    purpose = meta.get("config", {}).get("purpose", "training")
    found = []
    for name in sorted(kept | rejected):
        if who is not None and name != who:
            continue
        theirs = consents.get(name, [])
        states = Counter(each.state(purpose, day) for each in theirs) or Counter({MISSING: kept[name] + rejected[name]})
        saw_them = tuple(str(a) for a, records in adapters.items() if records is not None and saw(records, name))
        until = min((each.until for each in theirs if each.until), default=None)
        by = tuple(sorted({each.by for each in theirs if each.by}))
        found.append(Person(name, str(path), kept[name], rejected[name], dict(states), by, until, saw_them))
    return found


def _consents(path: Path) -> dict[str, list[Consent]]:
    """Of each person, that of each photo."""
    found: dict[str, list[Consent]] = {}
    if (path / SOURCES_FILE).exists():
        table = pq.read_table(path / SOURCES_FILE, columns=["identity", "photo", "consent"])
        for identity, photo, consent in zip(*(column.to_pylist() for column in table.columns), strict=True):
            if photo:
                found.setdefault(identity, []).append(from_json(consent))
    return found
