"""Do the photos of a folder show one person? The kind that `verify=` chooses of (paper section 3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass

from pm.choice import Choice
from pm.data.records import Photo


@dataclass(frozen=True)
class VerifyChoice(Choice, group="verify", package="pm.data.verify"):
    """Which face of a photo is the person's, and which photos show somebody else."""

    name: str

    def require(self, embedder: str) -> None:
        """Whether it can work with the vectors of this embedder ("none": there are none).

        Raises:
            ConfigError: it cannot.
        """

    def judge(self, members: Sequence[Photo], embedder: str) -> list[Photo]:
        """The photos of one person, each left with one face or rejected.

        Args:
            members: photos with one face or several, in any order.
            embedder: what made the faces' embeddings.
        """
        raise NotImplementedError
