"""`embedder=none`: faces are not compared; for `verify=none`."""

from dataclasses import dataclass
from typing import ClassVar

from pm.photo.embedders.embed import Embedder, EmbedderChoice


@dataclass(frozen=True)
class NoEmbedder(EmbedderChoice):
    """No embeddings."""

    holds_model: ClassVar[bool] = False

    def build(self, device: str = "cpu") -> Embedder | None:
        return None
