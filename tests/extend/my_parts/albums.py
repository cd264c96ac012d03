"""`dataset=albums`: a JSON file says which photos show whom: `{"anna_woman": ["2023/7.png", ...], ...}`."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pm.data.source.choice import Found, SourceChoice
from pm.errors import DataError


@dataclass(frozen=True)
class Albums(SourceChoice):
    album: str  # the JSON file, below the root; paths in it are relative to the root

    def found(self, ignored: Counter[str]) -> Iterator[Found]:
        path = Path(str(self.root), self.album)
        try:
            people = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"dataset.album={path} cannot be read: {error}") from error
        for identity, names in people.items():
            for name in names:
                photo = Path(str(self.root), name)
                yield Found(identity, name, True, photo.stat().st_size if photo.exists() else -1, str(photo))
