"""One training whose workers are killed at random moments, in a folder or in a storage that fails at random.

It must end as the undisturbed one does, to the bit: the loss of every step, and every weight of the adapter.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.fullsize import here

_EVERY = 5  # steps between two checkpoints, and between two kills on average


def train_workers() -> list[psutil.Process]:
    """Processes of this process's Ray that train."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "TrainWorker" in " ".join(process.cmdline()):
                found.append(process)
    return found


def kill_a_worker(chance: random.Random) -> None:
    """SIGKILL for one of them."""
    os.kill(chance.choice(train_workers()).pid, signal.SIGKILL)


class AtSteps(threading.Thread):
    """Calls `act` a moment after the run has passed each of `steps`, somewhere inside a later step.

    Args:
        folder: the run's.
        steps: in order; the run is in the first steps after the one before again when it has resumed.
        last: steps of the run; nothing happens after its end.
        act: what happens.
        seed: of the moments.
        longest: seconds, at most, between the step and the act.
    """

    def __init__(
        self,
        folder: Path,
        steps: Sequence[int],
        last: int,
        act: Callable[[], None],
        seed: int = 0,
        longest: float = 0.05,
    ) -> None:
        super().__init__(daemon=True)
        self.folder, self.steps, self.last, self.act, self.longest = folder, steps, last, act, longest
        self.done: list[int] = []
        self._ended = threading.Event()
        self._random = random.Random(seed)

    def run(self) -> None:
        from pm.train.callbacks.metrics import read_metrics

        acted = time.time()  # lines of an earlier run do not count
        for target in self.steps:
            while not self._ended.is_set():
                line = (read_metrics(self.folder / "metrics.jsonl") or [{"step": -1, "time": 0.0}])[-1]
                # Newer than the last act: the old lines stay until the run has started again.
                if target <= line["step"] < self.last and line["time"] > acted:
                    break
                time.sleep(0.005)
            if self._ended.is_set():
                return
            time.sleep(self._random.uniform(0, self.longest))
            with suppress(IndexError, ProcessLookupError):  # they end, or start, just now
                self.act()
                self.done.append(line["step"])
            acted = time.time()

    def __enter__(self) -> "AtSteps":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


def soak(home: Path, kills: int, seed: int, fails: float = 0.0) -> dict[str, Any]:
    """Train undisturbed, train with kills, compare.

    Args:
        home: folder of everything.
        kills: how many workers are killed.
        seed: of who and when, and of the storage's failures.
        fails: share of the storage's answers that are errors; 0: a plain folder.

    Returns:
        counts, and whether both ended alike.
    """
    from pm.config import from_mapping
    from pm.errors import PmError
    from pm.ray_env import ray_init
    from pm.train.run.config import RunConfig
    from pm.train.run.launch import launch
    from pm.train.run.storage import RemoteFolder

    # What is in a storage is seen a second later, some steps on.
    each = 4 * _EVERY if fails else _EVERY
    steps = each * (kills + 1)
    config = from_mapping(RunConfig, _settings(home, steps))
    calm, wild = home / f"undisturbed-{steps}", home / f"killed-{seed}-{fails:g}-{steps}"
    ray_init(address="local", num_cpus=4)
    if not (calm / "adapter.safetensors").exists():
        launch(config, calm, {})
    chance, said = random.Random(seed), Counter[str]()
    targets = sorted(chance.choices(range(1, steps - each), k=kills))
    start = time.monotonic()
    with _storage(fails, seed) as (uri, counts):
        seen = wild if uri is None else RemoteFolder(uri).scratch()  # where rank 0 writes, on this machine
        while not (wild / "summary.json").exists():
            left = targets[sum(v for k, v in said.items() if k == "killed") :]
            with AtSteps(seen, left, steps, lambda: kill_a_worker(chance), seed, longest=1.0) as killer:
                try:
                    launch(config, wild, {}, uri)
                except PmError as error:  # of the storage: the same command again, as it says
                    said[f"ended: {' '.join(str(error).split())[:80]}"] += 1
                    if sum(said.values()) > 20 * (kills + 50):
                        raise
                finally:
                    said["killed"] += len(killer.done)
    return {
        "seed": seed,
        "kills": said.pop("killed"),
        "wanted": kills,
        "steps": steps,
        "commands": 1 + sum(said.values()),
        "ended": dict(said),
        "storage": dict(counts),
        "seconds": round(time.monotonic() - start),
        **compare(calm, wild),
    }


def compare(calm: Path, wild: Path) -> dict[str, bool]:
    """Whether two finished runs are alike to the bit."""
    import torch
    from safetensors.torch import load_file

    one, other = (load_file(folder / "adapter.safetensors") for folder in (calm, wild))
    return {
        "losses_equal": here.last_loss(calm) == here.last_loss(wild),
        "weights_equal": one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one),
    }


def _settings(home: Path, steps: int) -> dict[str, Any]:
    """A run of two workers on a tiny base and drawn people, which are made on first use."""
    from pm.toon.base import write_random_base

    base, data = home / "base", home / "data"
    if not base.exists():
        write_random_base(base, size="tiny", seed=0)
    if not (data / "dataset.json").exists():
        here.preprocess(here.preprocess_settings(home / "photos", base, data, 6, 4, "float32"))
    how: dict[str, Any] = {"steps": steps, "batch_size": 8, "micro_batch_size": 2, "checkpoint_every": _EVERY}
    how |= {"num_to_keep": 2, "ema_decay": 0.9, "grad_clip": 0.05, "lr_lora": 1e-2, "lr_id_encoder": 1e-2}
    settings = here.train_settings(data, base, "zero2", "toon", **how)
    settings["adapter"] |= {"lora_rank": 4, "train_layers": 1}
    settings["workers"] |= {"num": 2, "use_gpu": False, "cpus_per_worker": 1, "max_failures": -1}
    return settings


@contextmanager
def _storage(fails: float, seed: int) -> Iterator[tuple[str | None, Counter[str]]]:
    """The URI of a storage that fails at random, and its counts; no URI where it never fails."""
    if not fails:
        yield None, Counter()
        return
    from benchmarks.soak.storage import failing_s3

    with failing_s3(fails, seed) as (uri, counts):
        yield f"{uri[0]}/soak-{seed}{uri[1]}", counts
