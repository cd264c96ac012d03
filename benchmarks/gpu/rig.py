"""What every step of the first GPU hour works with: a device, a size, clocks, and models that are loaded once."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.fullsize.folder import write_folder
from benchmarks.fullsize.models import load_pipeline, write_adapter
from benchmarks.fullsize.shapes import FULL, Size

GIB = 2**30
Row = Callable[[], dict[str, Any]]


@dataclass
class Rig:
    """One machine and one size.

    Args:
        home: folder of models and results.
        size: `FULL` or `TENTH`.
        device: cuda, or cpu for a dry run.
        steps: of a sampled picture.
        repeats: of every measurement, after one that is not counted.
        compiled: ways of compiling the U-Net that are measured; minutes each.
        deadline: `time.monotonic()` after which no further row begins.
    """

    home: Path
    size: Size
    device: str
    steps: int = 30
    repeats: int = 3
    compiled: tuple[str, ...] = ("off", "regional", "full")
    deadline: float = float("inf")
    _pipeline: tuple[tuple, Any] | None = field(default=None, repr=False)

    @property
    def cuda(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def full(self) -> bool:
        return self.size == FULL

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16

    @property
    def base(self) -> Path:
        """Random weights in the published layout, written on first use."""
        return write_folder(self.home / "base", self.size, device=self.device)

    def adapter(self, number: int = 0) -> Path:
        """One of several adapters of random weights."""
        return write_adapter(self.base, self.home / f"adapter-{number}.safetensors", seed=number)

    def pipeline(self, compiled: str = "off", dtype: torch.dtype | None = None) -> Any:
        """With the first adapter; the one that was asked for last stays loaded."""
        key = (compiled, dtype or self.dtype)
        if self._pipeline is None or self._pipeline[0] != key:
            self.free()
            loaded = load_pipeline(self.base, self.adapter(), self.device, key[1], compiled)
            self._pipeline = (key, loaded)
        return self._pipeline[1]

    def free(self) -> None:
        """Give the device's memory back."""
        self._pipeline = None
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def wait(self) -> None:
        """Until the device has done what it was told."""
        if self.cuda:
            torch.cuda.synchronize()

    def seconds(self, call: Callable[[], Any], repeats: int | None = None, warm: bool = True) -> float:
        """Median of some calls, each waited for; one before them is not counted."""
        if warm:
            call()
        found = []
        for _ in range(repeats or self.repeats):
            self.wait()
            start = time.perf_counter()
            call()
            self.wait()
            found.append(time.perf_counter() - start)
        return statistics.median(found)

    @contextmanager
    def peak(self, row: dict[str, Any]) -> Iterator[None]:
        """Note `peak_gib` of the device's memory in the block; nothing on the CPU."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        yield
        if self.cuda:
            row["peak_gib"] = torch.cuda.max_memory_allocated() / GIB

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()
