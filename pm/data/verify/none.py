"""`verify=none`: trust the folders; of several faces take the largest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pm.data.records import Face, Photo
from pm.data.verify.choice import VerifyChoice
from pm.photo.embedders.embed import EmbedderChoice


@dataclass(frozen=True)
class Trust(VerifyChoice):
    """Rejects nobody."""

    def judge(self, members: Sequence[Photo], embedder: EmbedderChoice) -> list[Photo]:
        """Each photo with its largest face."""
        return [replace(photo, faces=(max(photo.faces, key=_area),)) for photo in members]


def _area(face: Face) -> float:
    x0, y0, x1, y1 = face.box
    return (x1 - x0) * (y1 - y0)
