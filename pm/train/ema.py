"""Exponential moving average of the trainable weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from pm.train.engine.base import Engine


class MovingAverage:
    """Follows the float32 tensors that each rank updates, so under ZeRO it is partitioned like them.

    The decay starts low, min(decay, (1 + n) / (10 + n)), so that a short run's average is not its initialisation.
    """

    def __init__(self, engine: Engine, decay: float):
        self._engine, self._decay = engine, decay
        self._average = [weight.clone() for weight in engine.local_weights()]

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Take in the weights after update number `updates` (from 1)."""
        decay = min(self._decay, (1 + updates) / (10 + updates))
        torch._foreach_lerp_(self._average, self._engine.local_weights(), 1 - decay)

    @torch.no_grad()
    def drift(self) -> Tensor:
        """[2] float64, of this rank's tensors: sum of squares of average minus weights, and of the weights."""
        weights = self._engine.local_weights()
        pairs = zip(self._average, weights, strict=True)
        apart = torch.stack([(average - weight).double().square().sum() for average, weight in pairs])
        return torch.stack([apart.sum(), torch.stack([w.double().square().sum() for w in weights]).sum()])

    def gather(self, everywhere: bool = False) -> dict[str, Tensor]:
        """The average by parameter name, as `Engine.gather_trainable`. Collective."""
        with self._swapped():
            return self._engine.gather_trainable(everywhere)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Start from a saved average, given whole on every rank."""
        with self._swapped():
            self._engine.scatter_trainable(weights)

    @contextmanager
    def _swapped(self) -> Iterator[None]:
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for average, weight in zip(self._average, self._engine.local_weights(), strict=True):
            saved = weight.clone()
            weight.copy_(average)
            average.copy_(saved)
