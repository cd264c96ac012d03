"""The kind of parts that put a person into pictures: PhotoMaker, and what it is compared with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pm.choice import Choice
from pm.methods.trial import Photo, Trial
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import Request

if TYPE_CHECKING:
    import torch

    from pm.model.base import BaseModel
    from pm.model.config import BaseConfig
    from pm.sample.config import SamplerConfig


@dataclass(frozen=True)
class MethodChoice(Choice, group="method", package="pm.methods"):
    """A method and its settings (`conf/method/*.yaml`)."""

    name: str

    title: ClassVar[str]  # the head of its row
    tunes_per_person: ClassVar[bool] = False  # `personalise` takes so long that what it made is kept on disk
    needs_references: ClassVar[bool] = True  # False: its pictures do not depend on the person's photos

    def label(self) -> str:
        """The head of its row where settings tell apart two rows of one method."""
        return self.title

    def files(self) -> tuple[str, ...]:
        """Files of weights that the settings name: pictures of other weights are not taken for those of these."""
        return ()

    def check(self, base: BaseModel, references: int) -> None:
        """Refuse what can be told before any weights are loaded.

        Args:
            base: none of its parts is loaded.
            references: photos that a request will have.

        Raises:
            CheckpointError: a file is missing, or made for another base.
            ConfigError: too many references.
        """

    def load(self, base: BaseConfig, sampler: SamplerConfig, device: torch.device, dtype: torch.dtype) -> Method:
        """The working object.

        Raises:
            CheckpointError: weights are missing, or do not fit the base.
        """
        raise NotImplementedError


class Method(ABC):
    """A loaded method. All generate through the one sampler of `pipeline`, so requests of a batch may be mixed.

    Methods of one process share it (`pm.methods.pipeline`): requests name their adapter, or `BASE`, and what a method
    trains it trains on a copy (`pm.model.shared`).
    """

    pipeline: PhotoMakerPipeline
    about: Mapping[str, Any] = {}  # for the report: composer, merge, fingerprint of the weights, ...

    def personalise(self, references: Sequence[Photo], class_word: str, seed: int) -> Any:
        """What is made once for a person.

        Args:
            references: all photos that requests may use, in their order.
            class_word: "man", "woman", ...
            seed: of everything random.

        Returns:
            Tensors on the CPU, numbers, strings, and lists and dicts of these: `torch.load` reads it with
            `weights_only=True`.
        """
        return None

    @abstractmethod
    def requests(self, state: Any, trial: Trial, references: int) -> list[Request]:
        """One request for each seed of the trial.

        Args:
            state: what `personalise` made of the first `references` photos of the person.
            trial: whom and what to show.
            references: how many of the person's photos count.
        """

    def close(self) -> None:
        """Leave the pipeline, which others may share, as it was found; the method is not used any more."""
        self.pipeline.plain_unet()
