"""Which people went into an adapter, without their names: salted hashes, which say whether somebody is among them.

The salt makes the hashes of two runs differ, and no table of common names fits. Whoever has the file and guesses a name
can check the guess: the hashes are no anonymity.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pm.files import write_json

PEOPLE_FILE = "people.json"  # in a run's folder
_DIGITS = 16  # of a hash: 64 bits
_MOST_HEADER = 100_000_000  # bytes of a safetensors header, its own limit

Record = Mapping[str, Any]


def record_of(identities: Iterable[str], run: str, dataset: str) -> dict[str, Any]:
    """The people that a run is trained on: {salt, dataset, people}; the same on every worker and after a restart.

    Args:
        identities: their names.
        run: name of the run.
        dataset: fingerprint of the dataset.
    """
    salt = hashlib.sha256(f"{run}\0{dataset}".encode()).hexdigest()[:_DIGITS]
    return {"salt": salt, "dataset": dataset, "people": sorted({_hash(salt, name) for name in identities})}


def saw(records: Sequence[Record], person: str) -> bool:
    """Whether a person of this name is in any of the records."""
    return any(_hash(record["salt"], person) in record["people"] for record in records)


def number_of(records: Sequence[Record]) -> int:
    """How many people there are; those of several records are counted in each."""
    return sum(len(record["people"]) for record in records)


def write_people(run_dir: Path, records: Sequence[Record]) -> None:
    """Beside a run's adapter; it is there from the start, also if the run never ends."""
    write_json(run_dir / PEOPLE_FILE, {"format": 1, "records": list(records)})


def read_people(path: str | Path) -> list[Record] | None:
    """Of a run's folder or an adapter file; None: it does not say.

    Only the file's header is read.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _records(json.loads((path / PEOPLE_FILE).read_text(encoding="utf-8"))["records"])
        head = adapter_head(path)
        return None if head is None else _records(json.loads(head.get("extra", "{}")).get("people"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def adapter_head(path: Path) -> dict[str, str] | None:
    """The metadata of an adapter file of this project; None: it is something else."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _MOST_HEADER:
                return None
            metadata = json.loads(file.read(length)).get("__metadata__", {})
    except (OSError, ValueError, struct.error, AttributeError):
        return None
    return metadata if isinstance(metadata, dict) and "base_fingerprint" in metadata else None


def _records(found: Any) -> list[Record] | None:
    if not isinstance(found, list):
        return None
    return [each for each in found if isinstance(each, dict) and {"salt", "people"} <= each.keys()]


def _hash(salt: str, name: str) -> str:
    return hashlib.sha256(f"{salt}\0{name}".encode()).hexdigest()[:_DIGITS]
