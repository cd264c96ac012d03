"""Stage 4: a square around the face, larger than the face but at most ten times its area (paper section 3.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from pm.data.records import Photo, each_kept, refused
from pm.data.source.beside import view_of
from pm.data.stages.stage import Place, Remedy, Stage, Work
from pm.photo.crop import STAGE, CropConfig, cut_square
from pm.photo.pixels import encode_png
from pm.photo.types import Refusal


@dataclass(frozen=True)
class CropStage(Stage):
    """The square that `crop.*` describes."""

    name: ClassVar[str] = STAGE
    remedies: ClassVar[Mapping[str, Remedy]] = {
        "face_share": Remedy("crop.face_share", limit=0.05),
        "upscaled": Remedy("crop.max_upscale", limit=4),
    }

    def depends(self) -> dict[str, Any]:
        """The square."""
        return {"crop": self.config.crop}

    def build(self, place: Place) -> list[Work]:
        """One part."""
        root, config, least = str(self.config.dataset.root), self.config.crop, place.sizes.least_side
        return [Work(self.name, lambda photos: crop_photos(photos, root, config, least), per_photo=True)]


def crop_photos(photos: Sequence[Photo], root: str | Path, config: CropConfig, least_side: int) -> list[Photo]:
    """Cut the square out of each photo, at least `least_side` pixels large; rejects what `cut_square` refuses."""
    return each_kept(photos, lambda photo: _crop(photo, root, config, least_side))


def _crop(photo: Photo, root: str | Path, config: CropConfig, least_side: int) -> Photo:
    crop = cut_square(view_of(photo, root), photo.face, config, least_side)
    if isinstance(crop, Refusal):
        return refused(photo, crop)
    return replace(photo, crop_box=tuple(float(v) for v in crop.box), crop=encode_png(crop.pixels))
