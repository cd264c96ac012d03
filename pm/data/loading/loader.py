"""Batches for one of W workers, made ahead, resumable to the sample."""

from collections.abc import Iterator

from pm.data.dataset.reader import IdentityDataset
from pm.data.loading.ahead import Ahead, Processes, Thread
from pm.data.loading.batches import Batch
from pm.data.loading.share import Draw, Share

PREFETCH = 2  # batches


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
        processes: that make batches ahead instead of the thread; 0: none.
        pinned: what is made ahead is put into page-locked memory for a GPU.
        draw: makes each batch's random numbers from its seeds; picklable. None: none.
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
        processes: int = 0,
        pinned: bool = False,
        draw: Draw | None = None,
    ):
        self.dataset = dataset
        self._share = Share(dataset, batch_size, seed, rank, world_size, update, draw)
        self._prefetch, self._processes, self._pinned = prefetch, processes, pinned
        self._consumed = 0
        self._ahead: Ahead | None = None

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
        if self._prefetch == 0 and self._processes == 0:
            batch = self._share.batch_at(self._consumed)
        else:
            if self._ahead is None:
                self._ahead = self._start()
            batch = self._ahead.get()
        self._consumed = self._share.after(self._consumed)
        return batch

    def _start(self) -> Ahead:
        if self._processes:
            return Processes(self._share, self._consumed, self._processes, self._pinned)
        return Thread(self._share, self._consumed, self._prefetch, self._pinned)

    def close(self) -> None:
        """End the thread or processes that work ahead; the next batch starts new ones."""
        if self._ahead is not None:
            self._ahead.stop()
            self._ahead = None
