"""`face=portrait`: the face is where portraits have it; nothing is looked for. For drawings."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Le

from pm.errors import ConfigError
from pm.photo.faces.detect import Detector, FaceChoice
from pm.photo.types import Face, PhotoView


@dataclass(frozen=True)
class Portrait(FaceChoice):
    """One face in every photo, in the same place."""

    left: Annotated[float, Ge(0), Le(1)]  # of the photo's width, as all of these
    top: Annotated[float, Ge(0), Le(1)]  # of its height
    right: Annotated[float, Ge(0), Le(1)]
    bottom: Annotated[float, Ge(0), Le(1)]

    holds_model: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.left >= self.right or self.top >= self.bottom:
            raise ConfigError("face=portrait has no area; give left below right and top below bottom")

    def build(self, device: str = "cpu") -> Detector:
        return self._found

    def _found(self, photo: PhotoView) -> list[Face]:
        corners = (self.left * photo.width, self.top * photo.height)
        return [Face((*corners, self.right * photo.width, self.bottom * photo.height), (), 1.0)]
