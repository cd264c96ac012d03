"""What is measured between two log lines: losses, where the time goes, memory."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from pm.train.engine.base import world_size

PARTS = ("data", "forward", "backward", "optimizer", "checkpoint")
_WAITED = ("data", "checkpoint")  # the host waits for these itself; the rest is queued on a GPU


@dataclass(frozen=True)
class Reading:
    """Means since the last reading, over all workers unless said otherwise."""

    loss: float
    samples: int
    norm: float  # of the last update's gradient
    samples_per_s: float
    parts: dict[str, float]  # seconds an update, this worker's
    memory_gib: float  # most of any worker so far: device memory on a GPU, resident memory on a CPU
    drift: float | None  # |average - weights| / |weights| over all trained tensors
    waited: float  # seconds that reading took, catching up with a GPU


class Meter:
    """Sums on the device; reading them is the only point where workers and devices wait.

    On a GPU a part's time is that between two events in its stream: the host queues work and does not wait for it.
    """

    def __init__(self, device: torch.device, named_parts: bool = False):
        """`named_parts` marks the parts in a profiler's trace."""
        self._device, self._named_parts = device, named_parts
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)  # loss, samples
        self._norm: Tensor | float = 0.0
        self._seconds, self._updates = 0.0, 0
        self._parts = dict.fromkeys(PARTS, 0.0)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time one of `PARTS`."""
        mark = torch.profiler.record_function(name) if self._named_parts else nullcontext()
        if self._device.type == "cuda" and name not in _WAITED:
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            with mark:
                yield
            end.record()
            self._events.append((name, begin, end))
            return
        start = time.perf_counter()
        with mark:
            yield
        self._parts[name] += time.perf_counter() - start

    def add(self, losses: Tensor) -> None:
        """Take in the losses of some samples."""
        self._sums[0].add_(losses.double().sum())
        self._sums[1].add_(losses.numel())

    def close(self, norm: Tensor | float, seconds: float) -> None:
        """Note one update's gradient norm and duration."""
        self._norm = norm
        self._seconds += seconds
        self._updates += 1

    def read(self, drift: Tensor | None = None) -> Reading:
        """Everything since the last reading; starts the next one. Collective.

        Args:
            drift: [2] sums of squares on this worker: of average minus weights, and of the weights.
        """
        start = time.perf_counter()
        # A sharded average has its parts on the workers, a replicated one is the same on each: the ratio suits both.
        sums = self._sums if drift is None else torch.cat([self._sums, drift.to(self._sums)])
        memory = torch.tensor([_memory_bytes(self._device)], dtype=torch.float64, device=self._device)
        if world_size() > 1:
            dist.all_reduce(sums)
            dist.all_reduce(memory, dist.ReduceOp.MAX)
        total, samples, *squares = sums.tolist()
        norm = float(self._norm)
        for name, begin, end in self._events:
            end.synchronize()
            self._parts[name] += begin.elapsed_time(end) / 1000
        waited = time.perf_counter() - start
        seconds, updates = self._seconds + waited, max(1, self._updates)
        reading = Reading(
            loss=total / max(samples, 1),
            samples=int(samples),
            norm=norm,
            samples_per_s=samples / max(seconds, 1e-9),
            parts={name: value / updates for name, value in self._parts.items()},
            memory_gib=memory.item() / 2**30,
            drift=(squares[0] / squares[1]) ** 0.5 if squares and squares[1] > 0 else None,
            waited=waited,
        )
        self._sums.zero_()
        self._seconds, self._updates = 0.0, 0
        self._parts = dict.fromkeys(PARTS, 0.0)
        self._events.clear()
        return reading


def _memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
