"""The kind `objective`: what a training run minimises (`conf/objective/*.yaml`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pm.choice import Choice

if TYPE_CHECKING:  # configurations are read by programs that need no torch
    from torch import nn

    from pm.data.loading.share import Draw
    from pm.model.kinds.base import AdapterChoice
    from pm.train.diffusion import NoiseSchedule
    from pm.train.losses.choice import LossWeights
    from pm.train.step import Precision


@dataclass(frozen=True)
class ObjectiveChoice(Choice, group="objective", package="pm.train.objectives"):
    """From a batch to the loss of each sample."""

    name: str

    def check(self, adapter: AdapterChoice, loss_weights: LossWeights) -> None:
        """Refuse what does not go with it, before anything is loaded.

        Raises:
            ConfigError: it does not.
        """

    def drawing(self, schedule: NoiseSchedule) -> Draw | None:
        """What draws a batch's random numbers, where batches are loaded; the step finds them in `batch.draws`.

        None: the step draws them, which on a GPU it then waits for. Picklable.

        Args:
            schedule: the base's noise levels.
        """
        return None

    def parts(self) -> tuple[str, ...]:
        """Parts of the base that it needs beside those of the adapter, of those of `load_base`."""
        return ()

    def build(
        self,
        model: nn.Module,
        schedule: NoiseSchedule,
        scaling_factor: float,
        precision: Precision,
        loss_weights: LossWeights,
    ) -> nn.Module:
        """One nn.Module around the model, called with a `Batch`, that gives the loss of each sample, [B] float32.

        Args:
            model: a `TrainedAdapter`; it is the module's `photomaker`, so that weights have the same names in every
                checkpoint.
            schedule: the base's noise levels.
            scaling_factor: of the VAE's latents.
            precision: of the computation.
            loss_weights: how much the loss counts at each noise level.
        """
        raise NotImplementedError
