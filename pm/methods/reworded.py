"""Another class word for the person (paper section 4.3): "a woman img" for a man's photos, "a boy img" for youth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pm.errors import ConfigError
from pm.methods.base import Method
from pm.methods.photomaker import PhotoMakerMethod, StackedId
from pm.methods.pipeline import add_adapter, load_pipeline
from pm.methods.trial import Trial
from pm.sample.request import Request

if TYPE_CHECKING:
    import torch

    from pm.model.config import BaseConfig
    from pm.sample.config import SamplerConfig


@dataclass(frozen=True)
class Reworded(PhotoMakerMethod):
    words: dict[str, str]  # a person's own class word → the one that prompts have

    title: ClassVar[str] = "reworded"

    def __post_init__(self) -> None:
        if not self.words:
            raise ConfigError("method=reworded has no words; give them, for example words: {man: woman, woman: man}")

    def label(self) -> str:
        return ", ".join(f"{own} to {asked}" for own, asked in self.words.items())

    def load(self, base: BaseConfig, sampler: SamplerConfig, device: torch.device, dtype: torch.dtype) -> Method:
        pipeline = load_pipeline(base, sampler, device, dtype)
        return _Reworded(pipeline, sampler, add_adapter(pipeline, self.adapter), self.words)


class _Reworded(StackedId):
    """As PhotoMaker, with the class word exchanged in prompts alone: a word that is not named stays."""

    def __init__(self, pipeline: Any, sampler: Any, adapter: str, words: Mapping[str, str]) -> None:
        super().__init__(pipeline, sampler, adapter)
        self._words = dict(words)
        self.about = {**self.about, "words": self._words}

    def requests(self, state: Any, trial: Trial, references: int) -> list[Request]:
        word = self._words.get(trial.class_word, trial.class_word)
        return super().requests(state, dataclasses.replace(trial, class_word=word), references)
