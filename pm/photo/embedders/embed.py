"""The kind of parts that turn faces into vectors, of which the same person's lie close together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Protocol

import numpy as np
from annotated_types import Ge, Gt

from pm.choice import Choice
from pm.errors import ConfigError
from pm.photo.faces.detect import FaceChoice
from pm.photo.types import Face


class Embedder(Protocol):
    """image uint8 RGB [H, W, 3] and its n faces → [n, E]."""

    def __call__(self, image: np.ndarray, faces: Sequence[Face]) -> np.ndarray: ...


@dataclass(frozen=True)
class Distances:
    """How far apart the faces of one person lie, as L2 distances of unit embeddings; beside `EmbedderChoice`."""

    min_spread: Annotated[float, Ge(0)]  # lower bound of a person's robust standard deviation
    max_distance: Annotated[float, Gt(0)] | None  # a person's photos lie closer (median); None: not known


@dataclass(frozen=True)
class EmbedderChoice(Choice, group="embedder", package="pm.photo.embedders"):
    """What `verify=similarity` compares faces with; a part whose vectors can be compared is also `Distances`."""

    name: str

    holds_model: ClassVar[bool] = True  # worth a worker of its own that keeps it
    uses_gpu: ClassVar[bool] = False
    landmarks: ClassVar[str | None] = None  # which points of the detector it aligns faces by; None: it needs none

    def check(self, face: FaceChoice) -> None:
        """Refuse a detector that does not find the landmarks needed.

        Raises:
            ConfigError: it does not.
        """
        if self.landmarks is not None and face.landmarks != self.landmarks:
            raise ConfigError(
                f"embedder={self.name} needs landmarks ({self.landmarks}), which face={face.name} does not find; "
                "choose face=insightface with it"
            )

    def build(self, device: str = "cpu") -> Embedder | None:
        """The embedder, its model loaded; None: faces are not embedded.

        Raises:
            ConfigError: what it needs is not installed.
            CheckpointError: its weights are not there.
        """
        raise NotImplementedError

    def weights(self) -> tuple[Path, ...]:
        """Files of its network; () where it has none, or they are part of a library."""
        return ()
