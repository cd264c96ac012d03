"""Where a dataset's photos come from, in numbers."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq

UNKNOWN = "unknown"
_MOST_SOURCES = 100


def provenance_totals(parts: Iterable[Path]) -> dict[str, Any]:
    """Photos by licence and by source (the host of a URL, the bucket, or local files), from the part files themselves.

    Reads two columns of one row group at a time. Beyond 100 sources the rarer ones are counted together.
    """
    licences: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    hashed = 0
    for path in parts:
        file = pq.ParquetFile(path)
        names = [name for name in ("source", "licence", "sha256") if name in file.schema_arrow.names]
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=names).to_pylist()
            licences.update(row.get("licence") or UNKNOWN for row in rows)
            sources.update(origin(row.get("source")) for row in rows)
            hashed += sum(bool(row.get("sha256")) for row in rows)
    common = dict(sources.most_common(_MOST_SOURCES))
    rest = sources.total() - sum(common.values())
    return {
        "photos_with_sha256": hashed,
        "licences": dict(licences.most_common()),
        "sources": common | ({"others": rest} if rest else {}),
    }


def origin(source: str | None) -> str:
    """What a photo's source is counted under."""
    if not source:
        return UNKNOWN
    parts = urlsplit(source)
    if parts.scheme in ("http", "https") and parts.netloc:
        return parts.netloc.rpartition("@")[2]
    if parts.scheme in ("s3", "gs", "gcs"):
        return f"{parts.scheme}://{parts.netloc}"
    return "local files"
