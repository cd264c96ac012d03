"""Stage 3: which face is the person's, and which photos show somebody else (paper section 3.3, "ID verification")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pm.data.records import Photo, groups
from pm.data.stages.identities import TOO_FEW, require_photos
from pm.data.stages.stage import Place, Remedy, Stage, Work
from pm.data.verify.choice import VerifyChoice
from pm.photo.embedders.embed import EmbedderChoice


@dataclass(frozen=True)
class Verify(Stage):
    """What `verify=` says about each identity."""

    name: ClassVar[str] = "verify"
    remedies: ClassVar[Mapping[str, Remedy]] = {
        "other_person": Remedy("verify.threshold", limit=8),
        "no_common_person": Remedy(
            words="the folder {identities} seems to hold several people: give each of them a folder of their own, or, "
            "if it is one person all the same, add verify=none"
        ),
        "too_few_photos": TOO_FEW,
    }

    def depends(self) -> dict[str, Any]:
        """The rule, and how many photos are enough."""
        return {"verify": self.config.verify.depends(self.config.embedder), "min_photos": self.config.min_photos}

    def build(self, place: Place) -> list[Work]:
        """One part."""
        rule, embedder, least = self.config.verify, self.config.embedder, self.config.min_photos
        return [Work(self.name, lambda photos: verify(photos, rule, embedder, least), per_photo=False)]


def verify(photos: Sequence[Photo], rule: VerifyChoice, embedder: EmbedderChoice, min_photos: int) -> list[Photo]:
    """Leave each photo one face, whole identities at a time, and reject photos of somebody else.

    Identities that keep fewer than `min_photos` are rejected whole. `embedder` made the embeddings. Who is to stay by
    hand is judged with the others, and stays.
    """
    result = {photo.photo: photo for photo in photos}
    for members in groups(photos).values():
        result.update((photo.photo, _by_hand(photo)) for photo in rule.judge(members, embedder))
    return require_photos(list(result.values()), min_photos, Verify.name)


def _by_hand(photo: Photo) -> Photo:
    return replace(photo, reject=None) if photo.keep else photo
