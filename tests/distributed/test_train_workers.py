"""Several workers without Ray: real process groups on a model of one layer."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from support.loops import make_step, make_trainer
from support.training import random_batch, rows, train_config

from pm.train.callbacks.base import Callback
from pm.train.callbacks.metrics import MetricsFile, read_metrics
from pm.train.checkpoint import read_checkpoint
from pm.train.engine.ddp import DdpChoice
from pm.train.loop import Trainer
from pm.train.run.context import LocalContext
from pm.train.run.summary import CHECKPOINTS

BATCH = 8


class Shares:
    """What `Loader` gives one of several workers, of random batches of eight."""

    def __init__(self, config, rank, workers):
        self.window, self.rank, self.workers, self.consumed = config.micro_batch(workers) * workers, rank, workers, 0

    def __next__(self):
        start = self.consumed % BATCH
        end = min(start + self.window, BATCH)
        whole = random_batch(BATCH, seed=self.consumed - start + BATCH)
        self.consumed += end - start
        return rows(whole, range(start + self.rank, end, self.workers) or [start])

    def state_dict(self):
        return {"consumed": self.consumed}


class Context(LocalContext):
    """One of several; only rank 0 writes its files."""

    def __init__(self, run_dir, rank, workers):
        super().__init__(run_dir)
        self.rank, self.workers = rank, workers

    def report(self, step, metrics, write):
        if self.rank == 0:
            super().report(step, metrics, write)

    def stop_requested(self):
        return self.rank == 0 and (self.run_dir / "please").exists()


class Please(Callback):
    def __init__(self, folder):
        self.folder = folder

    def on_step(self, step):
        if step == 3:
            (self.folder / "please").touch()


def work(rank, workers, folder, micro, stop):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=workers)
    config = train_config(batch_size=BATCH, micro_batch_size=micro, ema_decay=0.9, checkpoint_every=None)
    step = make_step()
    groups = step.photomaker.parameter_groups()
    engine = DdpChoice("ddp").build(step, groups, config, torch.device("cpu"))
    callbacks = [MetricsFile(folder)] if rank == 0 else []
    callbacks += [Please(folder)] if stop and rank == 0 else []
    trainer = Trainer(config, Context(folder, rank, workers), engine, Shares(config, rank, workers), callbacks)
    trainer.fit()
    (folder / f"ended-{rank}").write_text(f"{trainer.step} {trainer.stopped}")
    dist.destroy_process_group()


def run(folder, workers, micro=None, stop=False):
    folder.mkdir()
    mp.spawn(work, (workers, folder, micro, stop), nprocs=workers)
    return [(folder / f"ended-{rank}").read_text() for rank in range(workers)]


@pytest.mark.parametrize(("workers", "micro"), [(2, None), (3, 1)])
def test_workers_train_as_one_process_does_even_or_uneven(tmp_path, workers, micro):
    """Three workers with micro-batches of one: three passes, and in the last one of them only two have a sample."""

    class Whole:
        consumed = 0

        def __next__(self):
            self.consumed += BATCH
            return random_batch(BATCH, seed=self.consumed)

        def state_dict(self):
            return {"consumed": self.consumed}

    settings = {"batch_size": BATCH, "checkpoint_every": None}
    alone = make_trainer(tmp_path / "alone", [MetricsFile(tmp_path / "alone")], batches=Whole(), **settings)
    alone.fit()
    assert run(tmp_path / "run", workers, micro) == ["6 False"] * workers
    saved = read_checkpoint(tmp_path / "run" / CHECKPOINTS / "step-00000006")
    for name, value in alone.engine.gather_trainable().items():
        torch.testing.assert_close(saved.engine.weights[name], value)
    for name, value in alone.ema.gather().items():
        torch.testing.assert_close(saved.ema[name], value)
    assert saved.position.consumed == 6 * BATCH and saved.position.workers == workers
    lines = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("alone", "run")]
    for key in ("loss", "grad_norm", "ema_drift", "checkpoint_loss"):
        assert [m[key] for m in lines[1]] == pytest.approx([m[key] for m in lines[0]], rel=1e-5), key


def test_all_workers_stop_after_the_same_step(tmp_path):
    assert run(tmp_path / "run", 2, stop=True) == ["4 True"] * 2
    assert read_checkpoint(tmp_path / "run" / CHECKPOINTS / "step-00000004").position.step == 4
