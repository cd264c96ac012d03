"""What a photo shows, in words: the kind that `caption=` chooses of (paper section 3.3, "Captioning and marking")."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from pm.choice import Choice
from pm.data.records import Photo


class Captioner(Protocol):
    """Describes a photo: (caption, class word or "" to look for one in the caption).

    One that is fast only with many photos at once also has `many(photos) -> list[str | None]`, captions with a class
    word, None where there is none.
    """

    def __call__(self, photo: Photo) -> tuple[str, str]: ...


@dataclass(frozen=True)
class CaptionChoice(Choice, group="caption", package="pm.data.captioning"):
    """Makes the captions."""

    name: str

    holds_model: ClassVar[bool] = False  # it holds a model: workers that keep it
    uses_gpu: ClassVar[bool] = False  # its model can use a GPU
    marked: ClassVar[bool] = False  # its captions always have the class word of their group: no marker is needed

    def build(self, root: str, *, device: str, dtype: str, batch_size: int | None) -> Captioner:
        """The captioner; a model is loaded at the first photo.

        Args:
            root: where the photos are, for what lies beside them.
            device: "cpu" or "cuda", for a model.
            dtype: of a model: float32 | bfloat16 | float16.
            batch_size: photos in one call of a model; None: measured.

        Raises:
            ConfigError: what it needs is not installed.
            CheckpointError: its model is missing.
        """
        raise NotImplementedError

    def notices(self, identities: Iterable[str]) -> list[str]:
        """What a user should know about these folders' names before the photos are looked at; a line each."""
        return []
