"""Which samples one of W workers reads: the pure part of loading."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from pm.data.dataset.reader import IdentityDataset
from pm.data.loading.batches import Batch, collate

# From seeds [B] and the shape (C, h, w) of one latent: a dataclass of tensors.
Draw = Callable[[Tensor, tuple[int, int, int]], Any]


@dataclass(frozen=True)
class Share:
    """One worker's batches; see `Loader` for what its fields mean."""

    dataset: IdentityDataset
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1
    update: int | None = None
    draw: Draw | None = None

    def after(self, consumed: int) -> int:
        """Samples consumed after the global micro-batch that begins at `consumed`."""
        end = consumed + self.batch_size * self.world_size
        return end if self.update is None else min(end, (consumed // self.update + 1) * self.update)

    def batch_at(self, consumed: int) -> Batch:
        """This worker's batch after `consumed` samples: a pure function, whatever was loaded before."""
        positions = range(consumed + self.rank, self.after(consumed), self.world_size)
        size = len(self.dataset)
        batch = collate([self.dataset.sample(self.seed, p // size, p % size) for p in positions or [consumed]])
        if self.draw is None:
            return batch
        channels, height, width = batch.mean.shape[1:]
        return replace(batch, draws=self.draw(batch.seeds, (channels, height, width)))
