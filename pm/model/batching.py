"""Batches as large as the GPU has memory for: measured, not guessed."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")
CPU_BATCH = 16  # without a GPU larger batches are not faster
_MOST, _SHARE = 256, 0.8  # of what is free; the rest is for fragmentation and other processes


class Meter(Protocol):
    """What a device says about its memory, in bytes."""

    def free(self) -> int:
        """What a new batch may take."""
        ...

    def peak(self, run: Callable[[], object]) -> int:
        """The most that `run` took on top of what was taken before."""
        ...


class CudaMeter:
    """PyTorch's own count for this process, and the driver's for the card."""

    def free(self) -> int:
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info()
        mine = total * torch.cuda.get_per_process_memory_fraction() - torch.cuda.memory_reserved()
        return max(0, min(free, int(mine)))  # where others share the card, what is free is not all for this process

    def peak(self, run: Callable[[], object]) -> int:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before


def best_device() -> str:
    """ "cuda" where this process may use a GPU (Ray hides those it did not give), else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def fitting_batch(run: Callable[[int], object], meter: Meter) -> int:
    """How many items fit into the free memory, from what one and what two items take.

    Args:
        run: does the work on so many items of the usual size.
        meter: of the device it runs on.

    Returns:
        1 to 256. What one batch takes is a constant and a part for each item, so two measurements tell both.
    """
    run(1)  # the first call also loads kernels, which stay
    one, two = (meter.peak(partial(run, n)) for n in (1, 2))
    each = max(two - one, 1)
    return int(min(_MOST, max(1, (_SHARE * meter.free() - (one - each)) // each)))


class Batcher:
    """Calls a model on batches: of the size given, or measured at the first call.

    A batch that runs out of memory all the same is halved, and so are the next ones.
    """

    def __init__(self, batch_size: int | None, device: str, meter: Meter | None = None):
        self.batch_size = batch_size
        self.meter = meter or (CudaMeter() if device.startswith("cuda") else None)

    def __call__(self, call: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R]:
        """`call` on all items; as many results, in order."""
        if not items:
            return []
        if self.batch_size is None:
            self.batch_size = CPU_BATCH
            if self.meter is not None:
                self.batch_size = self._measured(lambda n: call([items[0]] * n), self.meter)
        done: list[R] = []
        while len(done) < len(items):
            try:
                done += call(items[len(done) : len(done) + self.batch_size])
            except torch.OutOfMemoryError:
                if self.batch_size == 1:
                    raise
                torch.cuda.empty_cache()
                self.batch_size //= 2
        return done

    def _measured(self, run: Callable[[int], object], meter: Meter) -> int:
        try:
            return fitting_batch(run, meter)
        except torch.OutOfMemoryError:  # one item at a time may still fit
            torch.cuda.empty_cache()
            return 1
