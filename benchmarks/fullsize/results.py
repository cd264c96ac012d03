"""Rows of a benchmark in one JSON file, written after each: what is there is not measured again."""

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pm.errors import ConfigError
from pm.files import write_json
from pm.markdown import table


class Results:
    """`<folder>/results.json`.

    Args:
        folder: where it lies; made if needed.
        about: what all rows were measured with; rows of something else are not mixed with them.

    Raises:
        ConfigError: the file there was measured with something else.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.file = folder / "results.json"
        self.about = json.loads(json.dumps(dict(about)))
        self.rows: dict[str, dict[str, Any]] = {}
        if self.file.exists():
            found = json.loads(self.file.read_text())
            different = [key for key in self.about if found["about"].get(key) != self.about[key]]
            if different:
                key = different[0]
                raise ConfigError(
                    f"{self.file} was measured with {key}={found['about'].get(key)!r}, not {self.about[key]!r}; "
                    "choose another --output or remove it"
                )
            self.rows = found["rows"]

    def done(self, name: str) -> bool:
        """Whether a row was measured; one that failed or was left out is tried again."""
        return name in self.rows and "error" not in self.rows[name] and "not_available" not in self.rows[name]

    def put(self, name: str, row: Mapping[str, Any]) -> None:
        """Keep a row, at once."""
        self.rows[name] = dict(row) | {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.file, {"about": self.about, "rows": self.rows})

    def table(self, columns: Mapping[str, str | Callable[[Mapping[str, Any]], str]], names: Sequence[str] = ()) -> str:
        """Rows as Markdown. `columns`: heading → key of a row, or what makes the cell of it; `names`: which rows."""
        lines = []
        for name in names or self.rows:
            row = self.rows.get(name, {})
            lines.append([name, *(_cell(row, column) for column in columns.values())])
        return table(["", *columns], lines)


def _cell(row: Mapping[str, Any], column: str | Callable[[Mapping[str, Any]], str]) -> str:
    value = column(row) if callable(column) else row.get(column)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def machine() -> dict[str, Any]:
    """What a table must say beside its figures."""
    import torch

    found: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__}
    if torch.cuda.is_available():
        found |= {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    else:
        found["device"] = f"{platform.machine()}, {torch.get_num_threads()} threads"
    return found
