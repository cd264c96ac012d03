"""Consents beside the photos: `consent.yaml` or `consent.csv` in the root, or in a person's folder.

In the root, YAML maps people to consents, which may have exceptions under `photos:`; CSV has a row for each person or
photo (columns `person`, `photo` and those of a consent). In a person's folder, YAML is that person's consent itself.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pm.data.consent.record import NAMES, NOTHING, Consent, parse
from pm.errors import ConfigError, DataError, reason
from pm.files import write_text

FILES = ("consent.yaml", "consent.yml", "consent.csv")
_MOST_BYTES = 2**26
_HEAD = """\
# Who agreed to what. `photomaker preprocess consent=required` leaves out the photos of everybody else.
#   by: who gave the consent    when: on which day    until: the last day, if there is one
#   for: for what, e.g. [training, evaluation]; empty: for anything    withdrawn: on which day it was taken back
#   photos: exceptions, e.g. {3.jpg: {until: 2027-01-31}}
"""


@dataclass
class Consents:
    """All that is said, by person and by photo."""

    people: dict[str, Consent] = field(default_factory=dict)
    photos: dict[str, Consent] = field(default_factory=dict)  # by the photo's name below the root

    def of(self, person: str, photo: str) -> Consent:
        """What holds for a photo: what is said of it, then of its person."""
        own, whole = self.photos.get(photo, NOTHING), self.people.get(person, NOTHING)
        return own.over(whole) if not own.empty else whole

    def add(self, name: str, person: str, data: bytes) -> None:
        """Read one file.

        Args:
            name: of the file below the root.
            person: in whose folder it lies; "": in the root.

        Raises:
            DataError: it is not what it should be; names the file.
        """
        if len(data) > _MOST_BYTES:
            raise DataError(f"{name} has {len(data)} bytes, more than {_MOST_BYTES}; is it a consent file?")
        folder = name.rpartition("/")[0]
        try:
            text = data.decode("utf-8-sig")
            if name.endswith(".csv"):
                return self._add_rows(csv.DictReader(io.StringIO(text, newline="")), name, person, folder)
            content = yaml.safe_load(text) or {}
        except (yaml.YAMLError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{name} cannot be read ({reason(error)})") from error
        if not isinstance(content, dict):
            raise DataError(f"{name} must map people to consents; photomaker consent template makes one")
        for who, record in {person: content}.items() if person else content.items():
            self._add(str(who), record or {}, name, folder if person else f"{folder}/{who}".lstrip("/"))

    def _add(self, person: str, record: Any, name: str, folder: str) -> None:
        where = f"{name}, {person}"
        if not isinstance(record, Mapping):
            raise DataError(f"{where}: {record!r} is not a consent; it has {', '.join(NAMES)} and photos")
        whole = {key: value for key, value in record.items() if key != "photos"}
        self.people[person] = parse(whole, where)
        exceptions = record.get("photos") or {}
        if not isinstance(exceptions, Mapping):
            raise DataError(f"{where}: photos must map names of photos to consents")
        for photo, said in exceptions.items():
            self.photos[f"{folder}/{photo}"] = parse(said or {}, f"{where}, {photo}")

    def _add_rows(self, rows: csv.DictReader, name: str, person: str, folder: str) -> None:
        unknown = set(rows.fieldnames or ()) - {"person", "photo", *NAMES}
        if unknown or not rows.fieldnames:
            raise DataError(f"{name} has the column {', '.join(sorted(map(str, unknown)))}; known are {_COLUMNS}")
        for number, row in enumerate(rows, 2):
            where = f"{name}, line {number}"
            if None in row or None in row.values():
                raise DataError(f"{where} has not as many cells as there are columns")
            who, photo = (row.pop("person", "") or person).strip(), (row.pop("photo", "") or "").strip()
            if not who:
                raise DataError(f"{where} says no person")
            said = parse(row, where)
            if photo:
                below = photo if "/" in photo else f"{folder if person else who}/{photo}".lstrip("/")
                self.photos[below] = said
            else:
                self.people[who] = said


_COLUMNS = ", ".join(("person", "photo", *NAMES))


def is_consent_file(name: str) -> bool:
    """Whether a file's name below a root says that it holds consents."""
    return name.rpartition("/")[2].lower() in FILES


def write_template(root: str | Path, people: Iterable[str]) -> Path:
    """`consent.yaml` in the folder of photos, with an entry to fill in for each person who has none there.

    Raises:
        ConfigError: the folder has a `consent.csv`, or all of them are in the file already.
        WriteError: it cannot be written.
    """
    path = Path(root) / FILES[0]
    if Path(root, FILES[2]).exists():
        raise ConfigError(f"{Path(root, FILES[2])} is there already; add the rows of new people to it")
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    known = Consents()
    known.add(path.name, "", before.encode())
    new = list(_entries(who for who in people if who not in known.people))
    if not new:
        raise ConfigError(f"{path} has everybody already ({len(known.people)}); edit it")
    write_text(path, (before.rstrip("\n") + "\n" if before.strip() else _HEAD) + "".join(new))
    return path


def _entries(people: Iterable[str]) -> Iterator[str]:
    for who in people:
        name = yaml.safe_dump(who, allow_unicode=True, width=10**6).split("\n")[0]
        yield f'{name}: {{by: "", when: "", until: "", for: [training], source: "", licence: ""}}\n'
