"""Manifests: tables that a user wrote, CSV with a heading or JSON lines."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pm.errors import PmError


def manifest_rows(file: Path, needed: Sequence[str], error: type[PmError]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row with its line in the file; an empty one for a line that is no JSON object.

    Args:
        file: `.csv`; any other name: a JSON object a line. UTF-8.
        needed: columns that a CSV must have.
        error: what is raised.

    Raises:
        PmError: an `error`: it cannot be read, or a column is missing.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as why:
        raise error(f"manifest {file.absolute()} cannot be read ({why})") from why
    if file.suffix.lower() == ".csv":
        reader = csv.DictReader(text.splitlines())
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        lacking = [name for name in needed if name not in reader.fieldnames]
        if lacking:
            raise error(f"manifest {file.absolute()} has no column {', '.join(lacking)}; it needs {', '.join(needed)}")
        yield from enumerate(reader, 2)  # the first line is the heading
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                row = {}
            yield number, row if isinstance(row, dict) else {}
