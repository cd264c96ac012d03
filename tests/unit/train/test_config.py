"""Settings of an update, and how a batch is split over workers."""

import pytest
import torch
from support.training import settings, train_config

from pm.config import from_mapping
from pm.data.loading.loader import Loader
from pm.errors import ConfigError
from pm.train.run.config import RunConfig


@pytest.mark.parametrize(
    ("batch", "micro", "workers"),
    [(8, None, 2), (8, None, 3), (48, None, 7), (48, 2, 5), (7, 2, 5), (5, 1, 5), (3, 4, 2)],
)
def test_an_uneven_split_gives_the_mean_over_the_whole_batch(batch, micro, workers):
    config = train_config(batch_size=batch, micro_batch_size=micro)
    losses, seen, total = torch.rand(batch, dtype=torch.float64), [], 0.0
    passes = config.accumulation(workers)
    for rank in range(workers):
        shares = config.shares(rank, workers)
        assert len(shares) == passes
        for i, (count, factor) in enumerate(shares):
            start = i * workers * config.micro_batch(workers)
            mine = range(start + rank, min(start + workers * config.micro_batch(workers), batch), workers)
            assert count == len(mine)
            seen += mine
            if count:
                total += losses[list(mine)].mean() * factor
    assert sorted(seen) == list(range(batch))
    torch.testing.assert_close(total / (workers * passes), losses.mean())
    if batch % (workers * config.micro_batch(workers)) == 0:
        assert all(factor == 1.0 for rank in range(workers) for _, factor in config.shares(rank, workers))


@pytest.mark.parametrize(("micro", "workers"), [(None, 3), (1, 3), (2, 3), (None, 5), (2, 4)])
def test_no_sample_is_lost_or_repeated_when_workers_come_and_go(tiny_dataset_samples, micro, workers):
    """One epoch and a bit: a third with 2 workers, a third with `workers`, the rest with 1."""
    config = train_config(batch_size=8, micro_batch_size=micro)
    seen, consumed = [], 0
    for count, updates in ((2, 2), (workers, 2), (1, 2)):
        loaders = [
            Loader(
                tiny_dataset_samples,
                config.micro_batch(count),
                seed=3,
                rank=rank,
                world_size=count,
                update=8,
            )
            for rank in range(count)
        ]
        for loader in loaders:
            loader.load_state_dict({"consumed": consumed})
        for _ in range(updates):
            for i in range(config.accumulation(count)):
                for rank, loader in enumerate(loaders):
                    mine, _ = config.shares(rank, count)[i]
                    batch = next(loader)
                    assert len(batch) == max(1, mine)
                    seen += batch.seeds[:mine].tolist()
        states = {loader.state_dict()["consumed"] for loader in loaders}
        assert states == {consumed + 8 * updates}
        consumed = states.pop()
        for loader in loaders:
            loader.close()
    size = len(tiny_dataset_samples)
    assert sorted(seen) == sorted(tiny_dataset_samples.sample(3, p // size, p % size).seed for p in range(48))


@pytest.fixture
def tiny_dataset_samples(tiny_dataset):
    from pm.data.dataset.reader import IdentityDataset
    from pm.train.run.workers import samples_config

    return IdentityDataset(tiny_dataset, samples_config(train_config()))


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"train__steps": 0}, "train.steps=0 must be at least 1"),
        ({"train__null_text": 1.5}, "train.null_text=1.5 must be at least 0 and at most 1"),
        ({"train__min_references": 5}, "max_references=4 is below train.min_references=5"),
        ({"train__max_references": 9}, "exceeds adapter.max_id_images=4"),
        ({"train__ema_decay": 1.0}, "train.ema_decay=1.0 must be above 0 and below 1"),
        ({"train__grad_clip": 0.0}, "train.grad_clip=0.0 must be above 0"),
        ({"train__betas": [0.9]}, "must be two numbers"),
        ({"train__precision": "fp16"}, "train.precision='fp16' is not one of auto, fp32, tf32, bf16;"),
        ({"train__stepz": 3}, "did you mean 'steps'"),
        ({"engine__name": "zero4"}, "engine='zero4' is not one of auto, ddp, zero;"),
        ({"engine": {"name": "zero", "stage": 4, "deepspeed": {}}}, "engine.stage=4 must be at least 1 and at most 3"),
        ({"workers__use_gpu": "maybe"}, "workers.use_gpu='maybe'"),
        ({"validation__prompts": ["a man"]}, "lacks '{class_word} {trigger}'"),
        ({"name": "../other"}, "must be a plain name"),
    ],
)
def test_bad_settings_name_the_value_and_the_way_out(over, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.").replace("{", r"\{")):
        from_mapping(RunConfig, settings("data", "base", **over))


@pytest.mark.parametrize(
    ("batch", "micro", "workers", "expected"),
    [(32, None, 2, (16, 1)), (32, 4, 2, (4, 4)), (48, 1, 8, (1, 6)), (6, None, 1, (6, 1))],
)
def test_the_global_batch_is_micro_batch_times_workers_times_accumulation(batch, micro, workers, expected):
    config = train_config(batch_size=batch, micro_batch_size=micro)
    assert (config.micro_batch(workers), config.accumulation(workers)) == expected


def test_a_batch_that_cannot_be_split_names_one_that_can():
    with pytest.raises(ConfigError, match=r"batch_size=32 is not divisible by 3 workers x 10 samples .*batch_size=30"):
        train_config(batch_size=32).check_split(3)
    with pytest.raises(ConfigError, match=r"batch_size=1 .*2 workers x 1 .*batch_size=2"):
        train_config(batch_size=1).check_split(2)
