"""`dataset=toon`: people of the toon world, drawn first where there are none yet."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from pm.data.source.folder import Folder
from pm.errors import DataError

_BEFORE = {"occlusion": 0, "omit": 0}  # what versions drew that wrote nothing of them


@dataclass(frozen=True)
class Toon(Folder):
    """Drawn photos with exact annotations beside each."""

    identities: Annotated[int, Ge(1)]
    photos_per_identity: Annotated[int, Ge(1)]
    seed: int
    split: Literal["train", "eval"]  # no person is in both
    defects: dict[str, float] | None  # share of the drawn photos with each kind of defect
    occlusion: Annotated[float, Ge(0), Le(1)]  # probability of each thing that hides a part of the person
    omit: Annotated[float, Ge(0), Le(1)]  # probability with which a caption leaves out each thing that varies

    def prepare(self) -> None:
        """Draw the photos, unless they are there.

        Raises:
            DataError: they are there, drawn with other settings.
        """
        from pm.toon.world import DRAWN_FILE, write_photos

        root, wanted = Path(str(self.root)), self._drawing()
        if not (root.is_dir() and any(root.iterdir())):
            write_photos(root, **wanted)
        elif (note := root / DRAWN_FILE).exists() and (drawn := _BEFORE | json.loads(note.read_text())) != wanted:
            name = next(name for name in wanted if drawn.get(name) != wanted[name])
            raise DataError(
                f"dataset.root={root} was drawn with {name}={drawn.get(name)}, asked for is {wanted[name]}; "
                "remove that folder or give another dataset.root"
            )

    def _drawing(self) -> dict[str, Any]:
        names = ("identities", "photos_per_identity", "seed", "split", "occlusion", "omit")
        return {name: getattr(self, name) for name in names} | {"defects": self.defects or {}}
