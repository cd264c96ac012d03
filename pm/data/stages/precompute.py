"""Stage 7: everything the frozen parts of the base say about a photo, computed once."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from pm.data.stages.stage import Place, Stage, Work


@dataclass(frozen=True)
class Precompute(Stage):
    """What `features.*` asks for, in precision `dtype`."""

    name: ClassVar[str] = "precompute"

    @property
    def pool(self) -> bool:
        """It holds the base."""
        return True

    @property
    def gpu(self) -> bool:
        """Better on one."""
        return True

    def depends(self) -> dict[str, Any]:
        """What is computed, and how exactly."""
        features = asdict(self.config.features)
        # As if it were not there, which it was not in earlier versions.
        features["face_embeddings"] = features["face_embeddings"] or None
        return {"features": features, "dtype": self.config.dtype}

    def build(self, place: Place) -> list[Work]:
        """One part; brings torch, which takes seconds."""
        from pm.data.stages.encoder import Encoder

        config = self.config
        encoder = Encoder(
            config.base,
            place.sizes,
            config.features,
            device=place.device,
            dtype=config.dtype,
            batch_size=config.workers.batch_size,
        )
        return [Work(self.name, encoder, per_photo=True)]
