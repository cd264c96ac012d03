"""A manifest of URLs: which photos to download for which identity (paper section 3.3, "Image downloading").

CSV, JSONL or Parquet, one row a photo: `identity` and `url`; optionally `licence`, `sha256`, and the person's consent:
`consent_by`, `consent_when`, `consent_until`, `consent_for`, `consent_withdrawn`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.json

from pm.data.consent.record import NOTHING, Consent, parse
from pm.errors import DataError

_CONSENT = tuple(f"consent_{name}" for name in ("by", "when", "until", "for", "withdrawn"))
_COLUMNS = ("identity", "url", "licence", "sha256", *_CONSENT)
_FORMATS = {".csv": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".parquet": "parquet"}
_LONGEST = 100  # bytes of a folder's name


@dataclass(frozen=True)
class ManifestRow:
    """One photo to download; `name` is its place below `dataset.root`."""

    identity: str
    name: str
    url: str
    licence: str
    sha256: str
    consent: Consent


def manifest_rows(path: str) -> Iterator[ManifestRow]:
    """The rows in order, read in batches. The same URL under one identity always gets the same name.

    Raises:
        DataError: missing, another format, or a column is missing or has other types.
    """
    suffix = PurePosixPath(path).suffix.lower()
    if suffix not in _FORMATS:
        raise DataError(f"dataset.manifest={path} must end in one of {', '.join(_FORMATS)}")
    try:
        table = pyarrow.dataset.dataset(path, format=_format(_FORMATS[suffix]))
        missing = [name for name in _COLUMNS[:2] if name not in table.schema.names]
        if missing:
            raise DataError(
                f"dataset.manifest={path} has no column {missing[0]!r} (it has {', '.join(table.schema.names)}); "
                f"needed are identity and url, possible are {', '.join(_COLUMNS[2:])}"
            )
        columns = [name for name in _COLUMNS if name in table.schema.names]
        for batch in table.to_batches(columns=columns, batch_size=4096):
            for row in batch.to_pylist():
                yield _row({name: "" if row.get(name) is None else str(row[name]).strip() for name in _COLUMNS}, path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"dataset.manifest={path} cannot be read: {error}") from error


def _format(name: str) -> str | pyarrow.dataset.FileFormat:
    if name == "csv":  # all columns are words: the person 007 is not the number 7
        words = {column: pa.string() for column in _COLUMNS}
        return pyarrow.dataset.CsvFileFormat(convert_options=pyarrow.csv.ConvertOptions(column_types=words))
    return name


def _row(row: dict[str, str], path: str) -> ManifestRow:
    identity, url = _folder(row["identity"]), row["url"]
    try:
        suffix = PurePosixPath(urlsplit(url).path).suffix.lower()
    except ValueError:
        suffix = ""
    suffix = suffix if suffix.isascii() and 1 < len(suffix) <= 5 else ".img"
    name = f"{identity or '_'}/{hashlib.sha256(url.encode()).hexdigest()[:20]}{suffix}"
    said = {column.removeprefix("consent_"): row[column] for column in _CONSENT}
    consent = parse(said, f"dataset.manifest={path}, {url}") if any(said.values()) else NOTHING
    return ManifestRow(identity, name, url, row["licence"], row["sha256"].lower(), consent)


def _folder(identity: str) -> str:
    """An identity as the name of one folder: it may not lead elsewhere, whatever a manifest says."""
    name = "".join("_" if c in "/\\\0" else c for c in identity.encode("utf-8", "replace").decode()).lstrip(".").strip()
    if len(name.encode()) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    word = name.rpartition("_")[2].encode()[-20:].decode("utf-8", "ignore")  # the class word stays readable
    return f"{name.encode()[:60].decode('utf-8', 'ignore')}-{digest}_{word}"
