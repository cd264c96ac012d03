"""Do the photos of a folder show one person? The kind that `verify=` chooses of (paper section 3.3)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pm.choice import Choice
from pm.data.records import Photo
from pm.photo.embedders.embed import EmbedderChoice


@dataclass(frozen=True)
class VerifyChoice(Choice, group="verify", package="pm.data.verify"):
    """Which face of a photo is the person's, and which photos show somebody else."""

    name: str

    def require(self, embedder: EmbedderChoice) -> None:
        """Whether it can work with the vectors of this embedder.

        Raises:
            ConfigError: it cannot.
        """

    def depends(self, embedder: EmbedderChoice) -> dict[str, Any]:
        """The settings that its verdicts depend on, those of the embedder among them, by name."""
        return asdict(self)

    def judge(self, members: Sequence[Photo], embedder: EmbedderChoice) -> list[Photo]:
        """The photos of one person, each left with one face or rejected.

        Args:
            members: photos with one face or several, in any order.
            embedder: what made the faces' embeddings.
        """
        raise NotImplementedError
