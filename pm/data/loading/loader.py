"""Batches for one of W workers, prefetched, resumable to the sample."""

import queue
import threading
from collections.abc import Iterator

from pm.data.dataset.reader import IdentityDataset
from pm.data.loading.batches import Batch, collate

PREFETCH = 2  # batches
_POLL_SECONDS = 0.2


class Loader(Iterator[Batch]):
    """An endless iterator over batches.

    All workers together walk the same sequence of samples; of each global batch, rank r of W takes the positions
    k = r (mod W). The state is the number of samples that all workers together have consumed, so a run resumes exactly,
    also with another W, as long as the samples of an update stay.

    Args:
        dataset: where the samples come from.
        batch_size: samples in one batch of this worker.
        seed: of the whole sequence, equal on all workers.
        rank: this worker's number, r.
        world_size: number of workers, W.
        update: samples of one optimizer update, over all workers and micro-batches, if it may not divide evenly: the
            update's last micro-batch is then smaller, and a worker that gets nothing of it computes the first sample.
        prefetch: batches made ahead by a background thread; 0 makes them when asked.
    """

    def __init__(
        self,
        dataset: IdentityDataset,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        update: int | None = None,
        prefetch: int = PREFETCH,
    ):
        self.dataset, self.batch_size, self.seed, self.update = dataset, batch_size, seed, update
        self.rank, self.world_size, self.prefetch = rank, world_size, prefetch
        self._consumed = 0
        self._worker: _Prefetcher | None = None

    def after(self, consumed: int) -> int:
        """Samples consumed after the global micro-batch that begins at `consumed`."""
        end = consumed + self.batch_size * self.world_size
        return end if self.update is None else min(end, (consumed // self.update + 1) * self.update)

    @property
    def epoch(self) -> float:
        """Passes over the dataset so far."""
        return self._consumed / len(self.dataset)

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps; batches that were prefetched and not handed out do not count."""
        return {"consumed": self._consumed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after `state["consumed"]` samples; what was prefetched is thrown away."""
        self.close()
        self._consumed = int(state["consumed"])

    def __next__(self) -> Batch:
        if self.prefetch == 0:
            batch = self.batch_at(self._consumed)
        else:
            if self._worker is None:
                self._worker = _Prefetcher(self, self._consumed)
            batch = self._worker.get()
        self._consumed = self.after(self._consumed)
        return batch

    def batch_at(self, consumed: int) -> Batch:
        """This worker's batch after `consumed` samples: a pure function, whatever was loaded before."""
        positions = range(consumed + self.rank, self.after(consumed), self.world_size)
        size = len(self.dataset)
        return collate([self.dataset.sample(self.seed, p // size, p % size) for p in positions or [consumed]])

    def close(self) -> None:
        """Stop the background thread; the next batch starts a new one."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def __del__(self) -> None:
        worker = getattr(self, "_worker", None)
        if worker is not None:
            worker.stopped.set()  # no join: at interpreter exit it would wait for a thread that no longer runs


class _Prefetcher:
    """Makes batches ahead in a thread. Its errors are raised where the batch is asked for."""

    def __init__(self, loader: Loader, consumed: int):
        self.stopped = threading.Event()
        self._batches: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=loader.prefetch)
        self._error: BaseException | None = None
        # The thread gets a loader of its own: if it held `loader`, that could never be collected.
        source = Loader(
            loader.dataset,
            loader.batch_size,
            seed=loader.seed,
            rank=loader.rank,
            world_size=loader.world_size,
            update=loader.update,
            prefetch=0,
        )
        self._thread = threading.Thread(
            target=_fill, args=(source, consumed, self._batches, self.stopped), name="prefetch", daemon=True
        )
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


def _fill(source: Loader, consumed: int, batches: queue.Queue, stopped: threading.Event) -> None:
    failed = False
    while not failed and not stopped.is_set():
        try:
            item: Batch | BaseException = source.batch_at(consumed)
        except BaseException as error:
            item, failed = error, True
        while not stopped.is_set():
            try:
                batches.put(item, timeout=_POLL_SECONDS)
                break
            except queue.Full:
                continue
        consumed = source.after(consumed)
