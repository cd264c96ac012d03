import gc
import itertools
import threading

import pytest
import torch
from support.photos import SAMPLES, write_dataset

from pm.data.dataset.reader import IdentityDataset
from pm.data.loading.loader import Loader
from pm.errors import DataError


@pytest.fixture
def data(dataset_path) -> IdentityDataset:
    return IdentityDataset(dataset_path, SAMPLES)


def seeds(batches) -> list[list[int]]:
    return [batch.seeds.tolist() for batch in batches]


def take(loader: Loader, count: int) -> list[list[int]]:
    return seeds(itertools.islice(loader, count))


def test_batches_follow_the_epochs(data):
    flat = sum(take(Loader(data, 4, seed=7), 10), [])
    assert flat == [data.sample(7, p // 18, p % 18).seed for p in range(40)]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_share_each_global_batch_by_remainder(data, world_size):
    whole = take(Loader(data, 4, seed=1), 6)
    ranks = [take(Loader(data, 4 // world_size, seed=1, rank=r, world_size=world_size), 6) for r in range(world_size)]
    for step, batch in enumerate(whole):
        for rank in range(world_size):
            assert ranks[rank][step] == batch[rank::world_size]


def test_resume_is_exact_with_prefetched_batches_thrown_away(data):
    whole = take(Loader(data, 3, seed=5), 12)
    loader = Loader(data, 3, seed=5, prefetch=4)
    head = take(loader, 5)
    state = loader.state_dict()
    assert state == {"consumed": 15} and loader.epoch == pytest.approx(15 / 18)
    resumed = Loader(data, 3, seed=5)
    resumed.load_state_dict(state)
    assert head + take(resumed, 7) == whole
    loader.load_state_dict({"consumed": 3})
    assert take(loader, 2) == whole[1:3]


@pytest.mark.parametrize("before, after", [(1, 2), (2, 1), (2, 4), (4, 1)])
def test_a_resumed_run_sees_the_same_samples_after_the_number_of_workers_changed(data, before, after):
    def step(world_size, consumed, count):
        loaders = [Loader(data, 4 // world_size, seed=9, rank=r, world_size=world_size) for r in range(world_size)]
        for loader in loaders:
            loader.load_state_dict({"consumed": consumed})
        batches = [sorted(sum(parts, [])) for parts in zip(*(take(loader, count) for loader in loaders), strict=True)]
        states = {loader.state_dict()["consumed"] for loader in loaders}
        assert len(states) == 1
        return batches, states.pop()

    whole, _ = step(1, 0, 9)
    head, consumed = step(before, 0, 4)
    tail, end = step(after, consumed, 5)
    assert head + tail == whole and end == 36


def test_prefetching_changes_nothing(data):
    plain, ahead = (Loader(data, 4, seed=2, prefetch=n) for n in (0, 3))
    for a, b in zip(itertools.islice(plain, 6), ahead, strict=False):
        assert torch.equal(a.id_pixels, b.id_pixels) and torch.equal(a.mean, b.mean) and a.captions == b.captions


def test_errors_of_the_thread_arrive_and_stay(tmp_path):
    path = write_dataset(tmp_path / "d", {"a": 3})
    (path / "part-00000.parquet").write_bytes(b"damaged")
    loader = Loader(IdentityDataset(path, SAMPLES), 2, seed=0)
    for _ in range(2):
        with pytest.raises(DataError, match="is damaged"):
            next(loader)
    assert loader.state_dict() == {"consumed": 0}


def test_threads_end_with_their_loader(data):
    def prefetching():
        return {thread for thread in threading.enumerate() if thread.name == "prefetch"}

    before = prefetching()
    loader = Loader(data, 2, seed=0)
    next(loader)
    assert len(prefetching() - before) == 1
    loader.close()
    assert not prefetching() - before
    next(loader)
    thread = loader._ahead._thread
    del loader
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()
