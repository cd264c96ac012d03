"""Which word a caption is marked at when it lacks the class word of its group: the kind that `marking=` chooses of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pm.choice import Choice
from pm.data.records import Photo


class Marker(Protocol):
    """Which of several class words stands for the person, in a caption that lacks the group's."""

    def __call__(self, photo: Photo, words: Sequence[str], group_word: str) -> str: ...


@dataclass(frozen=True)
class MarkingChoice(Choice, group="marking", package="pm.data.captioning.marking"):
    """The rule (paper section 3.3, "Captioning and marking")."""

    name: str

    @property
    def holds_model(self) -> bool:
        """It holds models: workers that keep them."""
        return False

    @property
    def uses_gpu(self) -> bool:
        """Its models can use a GPU."""
        return self.holds_model

    def build(self, *, device: str) -> Marker | None:
        """The marker; None: the first class word of the caption is taken. Models are loaded when they are needed.

        Args:
            device: "cpu" or "cuda", for the models.

        Raises:
            ConfigError: what it needs is not installed.
        """
        raise NotImplementedError
