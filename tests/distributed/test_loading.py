"""Batches from several processes are the batches of one, bit for bit, and so are their errors."""

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support.photos import SAMPLES, write_dataset

from pm.data.dataset.reader import IdentityDataset
from pm.data.loading.loader import Loader
from pm.errors import DataError


def children() -> set[int]:
    """Processes that this one has started and that still run."""
    task = f"/proc/{os.getpid()}/task"
    return {int(pid) for thread in os.listdir(task) for pid in open(f"{task}/{thread}/children").read().split()}


def assert_same(one, other):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name


def test_two_processes_give_the_same_batches_from_any_position_and_end(tmp_path):
    path = write_dataset(tmp_path / "d", {"a": 5, "b": 1, "c": 3, "d": 9})
    data = IdentityDataset(path, SAMPLES)
    share = {"seed": 5, "rank": 1, "world_size": 2, "update": 6}
    alone, spread = Loader(data, 2, prefetch=0, **share), Loader(data, 2, processes=2, **share)
    before, state = children(), torch.get_rng_state()
    for loader in (alone, spread):
        loader.load_state_dict({"consumed": 12})
    for one, other in itertools.islice(zip(alone, spread, strict=True), 9):
        assert_same(one, other)
    assert spread.state_dict() == alone.state_dict()
    assert torch.equal(torch.get_rng_state(), state)  # the training's own numbers are the same with and without
    assert len(children() - before) >= 2
    spread.close()
    for _ in range(100):
        left = {pid for pid in children() - before if b"resource_tracker" not in _command(pid)}
        if not left:
            break
        time.sleep(0.05)
    assert not left


@pytest.mark.parametrize("killed", ["one process", "the trainer", "the trainer, before they are ready"])
def test_sigterm_hangs_nothing_and_leaves_no_process(tmp_path, killed):
    """To one process: an error at once, and a new start from the same position. To the trainer: all end with it."""
    path = write_dataset(tmp_path / "d", {"a": 5, "b": 3})
    if killed != "one process":
        env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        program = TRAINER.replace("next(loader)\n", STARTS, 1) if "before" in killed else TRAINER
        trainer = subprocess.Popen([sys.executable, "-c", program, path], env=env, stdout=subprocess.PIPE, text=True)
        pids = [int(pid) for pid in trainer.stdout.readline().split()]
        assert pids and all(_runs(pid) for pid in pids)
        trainer.terminate()
        assert trainer.wait(30) == -signal.SIGTERM
        trainer.stdout.close()
    else:
        loader = Loader(IdentityDataset(path, SAMPLES), 2, seed=0, processes=1)
        first, before = next(loader), loader.state_dict()
        pids = [worker.pid for worker in loader._ahead._batches._workers]
        os.kill(pids[0], signal.SIGTERM)
        with pytest.raises((RuntimeError, OSError)):  # OSError: it was to hand over a batch's memory
            for _ in range(20):  # what was ready is still handed over
                next(loader)
        loader.load_state_dict(before)
        alone = Loader(IdentityDataset(path, SAMPLES), 2, seed=0, prefetch=0)
        for one in (first, next(loader)):
            assert_same(one, next(alone))
        loader.close()
    deadline = time.monotonic() + 30
    while any(map(_runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_runs, pids))


TRAINER = """
import sys
from support.photos import SAMPLES
from pm.data.dataset.reader import IdentityDataset
from pm.data.loading.loader import Loader

loader = Loader(IdentityDataset(sys.argv[1], SAMPLES), 2, seed=0, processes=2)
next(loader)
print(*(worker.pid for worker in loader._ahead._batches._workers), flush=True)
while True:
    next(loader)
"""

STARTS = """
import threading, time
threading.Thread(target=next, args=(loader,), daemon=True).start()
while loader._ahead is None:
    time.sleep(0.001)
"""


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _command(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            return stream.read()
    except OSError:
        return b"resource_tracker"  # it has ended


def test_a_damaged_part_is_our_one_line_from_a_process_too(tmp_path):
    path = write_dataset(tmp_path / "d", {"a": 3})
    (path / "part-00000.parquet").write_bytes(b"damaged")
    loader = Loader(IdentityDataset(path, SAMPLES), 2, seed=0, processes=1)
    for _ in range(2):
        with pytest.raises(DataError, match="is damaged") as error:
            next(loader)
        assert "Traceback" not in str(error.value) and "\n" not in str(error.value)
    assert loader.state_dict() == {"consumed": 0}
    loader.close()
