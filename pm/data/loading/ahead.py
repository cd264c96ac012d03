"""Batches made ahead of training, by a thread or by processes. What they do is in the order of one worker's share."""

import functools
import os
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pm.data.loading.batches import Batch
from pm.data.loading.share import Share
from pm.errors import PmError

_POLL_SECONDS = 0.2
_AHEAD = 2  # batches of each process
_WATCH_SECONDS = 1.0


class Ahead(Protocol):
    """Makes the batches after a position, one after the other."""

    def get(self) -> Batch:
        """The next batch; raises what went wrong in making it."""

    def stop(self) -> None:
        """End the thread or the processes."""


class Thread:
    """One thread in this process.

    Args:
        share: this worker's batches.
        consumed: samples before the first batch.
        batches: made ahead, at most.
        pinned: put them into page-locked memory, from which a GPU copies while it computes.
    """

    def __init__(self, share: Share, consumed: int, batches: int, pinned: bool = False):
        self.stopped = threading.Event()
        self._batches: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=batches)
        self._error: BaseException | None = None
        # The thread holds nothing that would keep this object: it ends when this is collected.
        arguments = (share, consumed, self._batches, self.stopped, pinned)
        self._thread = threading.Thread(target=_fill, args=arguments, name="prefetch", daemon=True)
        self._thread.start()

    def get(self) -> Batch:
        if self._error is None:
            item = self._batches.get()
            if not isinstance(item, BaseException):
                return item
            self._error = item
        raise self._error

    def stop(self) -> None:
        self.stopped.set()
        self._thread.join()

    def __del__(self) -> None:
        self.stopped.set()  # no join: at interpreter exit it would wait for a thread that no longer runs


def _fill(share: Share, consumed: int, batches: queue.Queue, stopped: threading.Event, pinned: bool) -> None:
    failed = False
    while not failed and not stopped.is_set():
        try:
            batch = share.batch_at(consumed)
            item: Batch | BaseException = batch.pin_memory() if pinned else batch
        except BaseException as error:
            item, failed = error, True
        while not stopped.is_set():
            try:
                batches.put(item, timeout=_POLL_SECONDS)
                break
            except queue.Full:
                continue
        consumed = share.after(consumed)


class Processes:
    """Processes of torch's `DataLoader`, which hand their batches over in order, through shared memory.

    They are started anew (a copy of a process with threads, such as Ray's, may hang), hold the dataset's caches between
    them, and end with this object, or within seconds of this process, however it ends. A batch is made from its
    position alone, so their number changes no batch.

    Args:
        share: this worker's batches.
        consumed: samples before the first batch.
        number: of processes.
        pinned: as in `Thread`.
    """

    def __init__(self, share: Share, consumed: int, number: int, pinned: bool):
        self._error: PmError | None = None
        self._batches: Iterator[Batch | PmError] | None = iter(
            DataLoader(
                _Positioned(share, number),
                sampler=_Positions(share, consumed),
                batch_size=None,
                num_workers=number,
                prefetch_factor=_AHEAD,
                multiprocessing_context="spawn",
                worker_init_fn=functools.partial(_end_with, os.getpid()),
                pin_memory=pinned,
                generator=torch.Generator(),  # else it would take a number from the training's own generator
            )
        )

    def get(self) -> Batch:
        if self._error is None and self._batches is not None:
            item = next(self._batches)
            if not isinstance(item, PmError):
                return item
            self._error = item
        raise self._error or RuntimeError("these processes have ended")

    def stop(self) -> None:
        self._batches = None  # torch ends its processes when the iterator is collected


def _end_with(trainer: int, _: int) -> None:
    """In a process: end within seconds of the process that started it.

    torch watches for that too, but from when the process is ready: it would outlive for ever one that ended before.
    """

    def watch() -> None:
        while os.getppid() == trainer:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="watch", daemon=True).start()


class _Positioned(Dataset[Batch | PmError]):
    """The batch after so many samples; an error of the user's is a value, so that no traceback of torch's hides it."""

    def __init__(self, share: Share, processes: int):
        self._share, self._processes = share, processes

    def __getstate__(self) -> tuple[Any, ...]:
        share = self._share
        open_again = share.dataset.opener(self._processes)  # files and caches do not travel
        return open_again, share.batch_size, share.seed, share.rank, share.world_size, share.update, share.draw

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        open_again, *rest = state
        self._share = Share(open_again(), *rest)

    def __getitem__(self, consumed: int) -> Batch | PmError:
        try:
            return self._share.batch_at(consumed)
        except PmError as error:
            return error


class _Positions(Sampler[int]):
    """Where this worker's batches begin, without end."""

    def __init__(self, share: Share, consumed: int):
        self._share, self._consumed = share, consumed

    def __iter__(self) -> Iterator[int]:
        consumed = self._consumed
        while True:
            yield consumed
            consumed = self._share.after(consumed)
