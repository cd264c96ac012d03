"""Changed files take the place of a dataset's old ones, all at once or not at all.

They are made in `_forget/` first, under names that the old index does not know. A plan written there last is the moment
the change is decided: before it, a killed run leaves the dataset as it was; after it, reading is refused until
`settle` has done the rest, wherever it was stopped.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from pm.data.dataset.writer import BROWSE_FILE, PREVIEW_FILE
from pm.data.records import EDITS_FILE, FORGET, INDEX_FILE, META_FILE, PLAN, REJECTS_FILE, SOURCES_FILE
from pm.files import write_json
from pm.hub.card import CARD


def write_plan(new: Path, old: Sequence[str]) -> None:
    """What lies in `new` is whole; from the moment that it is there as `_forget/` it takes the place of these files."""
    write_json(new / PLAN, {"old": list(old)})


def settle(output: Path) -> bool:
    """Put a decided change into effect, wherever it was stopped; throw an undecided one away. True if decided."""
    new = output / FORGET
    if not (new / PLAN).exists():
        shutil.rmtree(new, ignore_errors=True)
        return False
    old = json.loads((new / PLAN).read_text())["old"]
    for part in sorted(new.glob("part-*.parquet")):
        part.replace(output / part.name)
    for name in (REJECTS_FILE, INDEX_FILE, SOURCES_FILE, EDITS_FILE, CARD, META_FILE):
        if (new / name).exists():
            (new / name).replace(output / name)
    for name in (*old, PREVIEW_FILE, BROWSE_FILE):
        (output / name).unlink(missing_ok=True)
    (new / PLAN).unlink()
    shutil.rmtree(new)
    return True
