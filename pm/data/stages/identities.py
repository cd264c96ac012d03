"""Stage 8: the last look at who still has enough photos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pm.data.records import Photo, groups
from pm.data.stages.stage import Place, Remedy, Stage, Work

TOO_FEW = Remedy("min_photos", limit=1, follows=True)


@dataclass(frozen=True)
class Identities(Stage):
    """Rejects the photos of people whom the stages before left too few."""

    name: ClassVar[str] = "identities"
    joins: ClassVar[bool] = True
    remedies: ClassVar[Mapping[str, Remedy]] = {"too_few_photos": TOO_FEW}

    def depends(self) -> dict[str, Any]:
        """How many are enough."""
        return {"min_photos": self.config.min_photos}

    def build(self, place: Place) -> list[Work]:
        """One part."""
        least = self.config.min_photos
        return [Work(self.name, lambda photos: require_photos(photos, least, self.name), per_photo=False)]


def require_photos(photos: Sequence[Photo], min_photos: int, stage: str) -> list[Photo]:
    """Reject identities with fewer than `min_photos` photos whole: there would be nothing to refer to."""
    counts = {identity: len(members) for identity, members in groups(photos).items()}
    return [
        photo.rejected(stage, "too_few_photos", counts[photo.identity], min_photos)
        if not photo.reject and counts[photo.identity] < min_photos
        else photo
        for photo in photos
    ]
