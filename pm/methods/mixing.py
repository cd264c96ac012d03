"""Mixing people (paper section 4.3): portraits from the photos of two, by how many of each or by weights.

A trial's references are the first person's photos, then as many of the second's (`pm.evaluate.suites.toon_mixing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Interval

from pm.errors import ConfigError
from pm.methods.base import Method
from pm.methods.photomaker import PhotoMakerMethod, StackedId
from pm.methods.pipeline import add_adapter, load_pipeline
from pm.methods.trial import Trial
from pm.sample.request import Request, request_of

if TYPE_CHECKING:
    import torch

    from pm.model.base import BaseModel
    from pm.model.config import BaseConfig
    from pm.sample.config import SamplerConfig


@dataclass(frozen=True)
class Mixing(PhotoMakerMethod):
    by: Literal["count", "weight"]  # photos of each in one stack, or one stack of all with a weight for each photo
    share: Annotated[float, Interval(ge=0, le=1)]  # of the second person
    photos: Annotated[int, Ge(2)]  # in the stack

    title: ClassVar[str] = "mixed"

    def __post_init__(self) -> None:
        if self.by == "count" and not (self.share * self.photos).is_integer():
            raise ConfigError(
                f"share={self.share} of photos={self.photos} is no whole number of photos; use a multiple of "
                f"1/{self.photos}, or by: weight"
            )
        if self.by == "weight" and self.photos % 2:
            raise ConfigError(f"photos={self.photos} must be even with by: weight: half of them are of each person")

    def label(self) -> str:
        return f"{100 * self.share:g} % of the second by {self.by}"

    def check(self, base: BaseModel, references: int) -> None:
        if references != 2 * self.photos:
            raise ConfigError(
                f"method=mixing takes {self.photos} photos of each of two people; set protocol.references="
                f"[{2 * self.photos}] with suite=toon_mixing"
            )
        super().check(base, self.photos)

    def load(self, base: BaseConfig, sampler: SamplerConfig, device: torch.device, dtype: torch.dtype) -> Method:
        pipeline = load_pipeline(base, sampler, device, dtype)
        return _Mixed(pipeline, sampler, add_adapter(pipeline, self.adapter), self)


class _Mixed(StackedId):
    """A state holds the embeddings of both people's photos, [2 N, D]."""

    def __init__(self, pipeline: Any, sampler: Any, adapter: str, settings: Mixing) -> None:
        super().__init__(pipeline, sampler, adapter)
        self._settings = settings
        self.about = {**self.about, "by": settings.by, "share": settings.share}

    def requests(self, state: Any, trial: Trial, references: int) -> list[Request]:
        settings = self._settings
        rows, weights = stack_of(settings.by, settings.share, settings.photos)
        prompt = trial.prompt(f"{trial.subject} {self.pipeline.trigger_word_of(self._adapter)}")
        fields = {"adapter": self._adapter, "id_embeds": state["id_embeds"][list(rows)], "any_class_word": True}
        return [request_of(self._sampler, prompt, seed=seed, weights=weights, **fields) for seed in trial.seeds]


def stack_of(by: str, share: float, photos: int) -> tuple[Sequence[int], list[float] | None]:
    """Which photos are stacked, of N of the first person and then N of the second, and their weights.

    By weight both people have half of the stack; the one with the smaller share is weighed down, the other counts whole
    (a weight of 1), so that neither is drawn beyond what the photos show.
    """
    if by == "count":
        second = round(share * photos)
        return [*range(photos - second), *range(photos, photos + second)], None
    half = photos // 2
    first, second_weight = min(1.0, 2 * (1 - share)), min(1.0, 2 * share)
    return [*range(half), *range(photos, photos + half)], [first] * half + [second_weight] * half
