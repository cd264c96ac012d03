"""Old photos and paintings as references (paper section 4.3): the same photos, degraded before the adapter sees them.

As a method and not a suite, so that one report has both, person by person on the same prompts and seeds.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pm.errors import ConfigError
from pm.methods.base import Method
from pm.methods.photomaker import PhotoMakerMethod, StackedId
from pm.methods.pipeline import add_adapter, load_pipeline
from pm.methods.trial import Photo
from pm.toon.looks import LOOKS, look

if TYPE_CHECKING:
    import torch

    from pm.model.config import BaseConfig
    from pm.sample.config import SamplerConfig


@dataclass(frozen=True)
class Degraded(PhotoMakerMethod):
    look: str  # one of `pm.toon.looks.LOOKS`

    title: ClassVar[str] = "degraded"

    def __post_init__(self) -> None:
        if self.look not in LOOKS:
            raise ConfigError(f"look={self.look} of method=degraded is not one of {', '.join(LOOKS)}")

    def label(self) -> str:
        return f"from {self.look} photos"

    def load(self, base: BaseConfig, sampler: SamplerConfig, device: torch.device, dtype: torch.dtype) -> Method:
        pipeline = load_pipeline(base, sampler, device, dtype)
        return _Degraded(pipeline, sampler, add_adapter(pipeline, self.adapter), self.look)


class _Degraded(StackedId):
    def __init__(self, pipeline: Any, sampler: Any, adapter: str, name: str) -> None:
        super().__init__(pipeline, sampler, adapter)
        self._look = name
        self.about = {**self.about, "look": name}

    def personalise(self, references: Sequence[Photo], class_word: str, seed: int) -> dict[str, Any]:
        """As PhotoMaker's; a photo's scratches and tints come from its own pixels."""
        shown = [
            dataclasses.replace(photo, image=look(photo.image, self._look, zlib.crc32(photo.image.tobytes())))
            for photo in references
        ]
        return super().personalise(shown, class_word, seed)
