"""PhotoMaker: the stacked ID embedding of the photos, by an adapter file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from pm.errors import ConfigError
from pm.methods.base import Method, MethodChoice
from pm.methods.photos import check_photos
from pm.methods.pipeline import add_adapter, load_pipeline
from pm.methods.trial import Photo, Trial
from pm.model.adapter import check_adapter
from pm.sample.adapters import find_adapter
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.references import Reference
from pm.sample.request import Request, request_of

if TYPE_CHECKING:
    import torch

    from pm.model.base import BaseModel
    from pm.model.config import BaseConfig
    from pm.sample.config import SamplerConfig


@dataclass(frozen=True)
class PhotoMakerMethod(MethodChoice):
    adapter: str  # file, folder or Hub id, ours or published

    title: ClassVar[str] = "PhotoMaker"
    kind: ClassVar[str | None] = None  # of adapters (`pm.model.kinds`) that it takes; None: any

    def label(self) -> str:
        path = Path(self.adapter)
        return path.parent.name if path.stem == "adapter" else path.stem

    def files(self) -> tuple[str, ...]:
        return (self.adapter,)

    def check(self, base: BaseModel, references: int) -> None:
        file = find_adapter(self.adapter, None, "")
        meta = check_adapter(file, base)
        if self.kind is not None and meta.kind != self.kind:
            raise ConfigError(
                f"method={self.name} needs an adapter of the kind {self.kind}, {file.absolute()} is a {meta.kind}; "
                f"train one with model={self.kind}, or choose another method"
            )
        if references > meta.max_id_images:
            raise ConfigError(
                f"protocol.references={references}, but {file.absolute()} takes at most {meta.max_id_images}; leave it "
                "out of protocol.references"
            )

    def load(self, base: BaseConfig, sampler: SamplerConfig, device: torch.device, dtype: torch.dtype) -> Method:
        pipeline = load_pipeline(base, sampler, device, dtype)
        return StackedId(pipeline, sampler, add_adapter(pipeline, self.adapter))


class StackedId(Method):
    """A state holds the photos' identity embeddings, [N, D].

    Args:
        pipeline: with the adapter.
        sampler: how pictures are drawn.
        adapter: its name in the pipeline; None: the default.
    """

    def __init__(self, pipeline: PhotoMakerPipeline, sampler: SamplerConfig, adapter: str | None = None) -> None:
        self.pipeline, self._sampler = pipeline, sampler
        self._adapter = adapter or pipeline.adapters[-1]
        self.most_references = pipeline.max_id_images_of(self._adapter)
        self.about = {"fingerprint": pipeline.digest_of(self._adapter)}
        loaded = pipeline.adapter(self._adapter)
        if loaded is not None:
            terms = loaded.terms
            self.about |= {"compose": terms.compose.label, "merge": terms.merge, "kind": terms.kind.__name__}

    def personalise(self, references: Sequence[Photo], class_word: str, seed: int) -> dict[str, Any]:
        """{"id_embeds": float32 [N, D]}.

        Raises:
            RequestError: no references, or one is no picture.
        """
        check_photos(references)
        images = [Image.fromarray(photo.image) for photo in references]
        masks = [None if p.mask is None else Image.fromarray(p.mask.astype(np.uint8) * 255) for p in references]
        shown = [Reference(image, mask) for image, mask in zip(images, masks, strict=True)]
        return {"id_embeds": self.pipeline.embed(shown, self._adapter)}

    def close(self) -> None:
        super().close()
        self.pipeline.unload_photomaker_adapter(self._adapter)

    def requests(self, state: Any, trial: Trial, references: int) -> list[Request]:
        prompt = trial.prompt(f"{trial.subject} {self.pipeline.trigger_word_of(self._adapter)}")
        fields = {"adapter": self._adapter, "id_embeds": state["id_embeds"][:references], "any_class_word": True}
        return [request_of(self._sampler, prompt, seed=seed, **fields) for seed in trial.seeds]
