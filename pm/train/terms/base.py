"""The kind `term`: what is added to the diffusion loss, with a weight (`conf/term/*.yaml`, `train.objective.terms`).

Shapes: B samples, C x h x w latents.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from pm.choice import Choice

if TYPE_CHECKING:  # configurations are read by programs that need no torch
    from torch import Tensor

    from pm.model.kinds.base import AdapterChoice
    from pm.train.diffusion import NoiseSchedule


@dataclass(frozen=True)
class Seen:
    """A step as a term sees it, after the prediction."""

    batch: Any  # `pm.data.loading.batches.Batch`
    latents: Tensor  # [B, C, h, w] float32, z_0
    noisy: Tensor  # [B, C, h, w] in the dtype of the computation, z_t
    timesteps: Tensor  # [B] int64
    prediction: Tensor  # [B, C, h, w], with gradients


class Term(ABC):
    """A working term. What it holds beside the model in training is frozen, and no part of any checkpoint."""

    def watching(self, batch: Any) -> AbstractContextManager[Any]:
        """Around the model's forward pass, for terms that look at what happens in it."""
        return nullcontext()

    @abstractmethod
    def __call__(self, seen: Seen) -> Tensor:
        """[B] float32, without the weight; 0 for samples that it says nothing of. A batch of n is n batches of 1."""


@dataclass(frozen=True)
class TermChoice(Choice, group="term", package="pm.train.terms"):
    """A term and its settings."""

    name: str
    weight: Annotated[float, Ge(0)]  # 0: as if it were not there

    def check(self, adapter: AdapterChoice) -> None:
        """Refuse a kind of adapter that it does not go with, before anything is loaded.

        Raises:
            ConfigError: it does not.
        """

    def parts(self) -> tuple[str, ...]:
        """Parts of the base that it needs, of those of `load_base`."""
        return ()

    def build(self, model: Any, schedule: NoiseSchedule, scaling_factor: float) -> Term:
        """The working term around a `TrainedAdapter`, which it may teach to be watched.

        Raises:
            CheckpointError: weights that it needs cannot be had.
        """
        raise NotImplementedError


def active(terms: Sequence[TermChoice]) -> tuple[TermChoice, ...]:
    """Those that count."""
    return tuple(term for term in terms if term.weight > 0)
