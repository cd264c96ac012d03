"""Killed workers and full disks: a run ends where an undisturbed one does."""

import dataclasses
import random
import re
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.training import run_config, write_dataset  # noqa: E402

from benchmarks.soak.training import AtSteps, compare, kill_a_worker  # noqa: E402
from pm.errors import CheckpointError, WriteError  # noqa: E402
from pm.model.adapter_file import load_adapter  # noqa: E402
from pm.train.callbacks.metrics import read_metrics  # noqa: E402
from pm.train.run.launch import launch  # noqa: E402
from pm.train.run.plan import Shortage  # noqa: E402

pytestmark = pytest.mark.timeout(900)
STEPS = 30
ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "engine": yaml.safe_load((ROOT / "conf/engine/zero2.yaml").read_text()),
    "train__steps": STEPS,
    "train__batch_size": 8,
    "train__micro_batch_size": 2,  # two passes a step
    "train__checkpoint_every": 5,
    "train__num_to_keep": 2,
    "train__ema_decay": 0.9,
    "train__grad_clip": 0.05,
    "workers__cpus_per_worker": 1,
    "workers__num": 2,
}


@pytest.fixture(scope="module")
def dataset(tiny_base, tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny", tiny_base, people=6, photos=4)


@pytest.fixture(scope="module")
def undisturbed(ray_session, dataset, tiny_base, tmp_path_factory):
    """The folder of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    launch(run_config(dataset, tiny_base, **SETTINGS | {"train__validate_every": STEPS}), folder, {})
    return folder


def losses(folder):
    return [(line["step"], line["loss"]) for line in read_metrics(folder / "metrics.jsonl")]


def test_an_undisturbed_run_leaves_everything_once(undisturbed, dataset, tiny_base, capsys):
    state, meta = load_adapter(undisturbed / "adapter.safetensors")
    (seen,) = meta.extra.pop("people")
    assert len(seen["people"]) == len(set(seen["people"])) and set(seen) == {"dataset", "salt", "people"}
    assert meta.compose.name == "stacked" and meta.extra == {"step": STEPS, "run": "test", "preprocess": {}}
    assert any(v.abs().max() > 0 for k, v in state.items() if k.endswith("lora_B.weight"))  # it learnt something
    names = [f"step-{step:08d}" for step in (STEPS - 5, STEPS)]
    assert sorted(f.name for f in (undisturbed / "checkpoints").glob("step-*")) == names
    assert (undisturbed / f"validation/{names[-1]}.png").exists()
    assert (undisturbed / "config.yaml").exists() and not (undisturbed / ".progress.json").exists()
    capsys.readouterr()
    launch(run_config(dataset, tiny_base, **SETTINGS), undisturbed, {})
    assert f"already finished ({STEPS} steps in " in capsys.readouterr().out


def test_a_run_that_everything_happens_to_ends_where_an_undisturbed_one_does(undisturbed, dataset, tiny_base, tmp_path):
    """A disk that is full half-way through a checkpoint, Ray's list of checkpoints cut off in writing, and workers
    killed at random moments; and its batches come from a process beside each worker. (test_jobs.py has SIGTERM.)"""
    folder = tmp_path / "chaos"
    config = run_config(dataset, tiny_base, **SETTINGS, workers__max_failures=-1, workers__loaders=1)
    # A real "no space left on device" in the third checkpoint, whose other files are written well.
    full = folder / "checkpoints/step-00000015"
    full.mkdir(parents=True)
    (full / "state.safetensors").symlink_to("/dev/full")
    message = r"step-00000015 could not be written .*No space left on device.*resumes from step-00000010"
    with pytest.raises(CheckpointError, match=message):
        launch(config, folder, {})
    assert not full.exists() or not (full / "state.safetensors").exists()

    listed = folder / "checkpoints/checkpoint_manager_snapshot.json"
    listed.write_text(listed.read_text()[:20])
    chance = random.Random(0)
    with AtSteps(folder, [16, 20, 25], STEPS, lambda: kill_a_worker(chance)) as killer:
        adapter = launch(config, folder, {})
    assert len(killer.done) == 3, f"the run ended before its workers were killed: {killer.done}"

    assert [step for step, _ in losses(folder)] == list(range(1, STEPS + 1))  # every step once
    assert adapter == folder / "adapter.safetensors"
    assert compare(undisturbed, folder) == {"losses_equal": True, "weights_equal": True}


def test_a_folder_that_cannot_be_written_is_named_before_any_worker_starts(ray_session, dataset, tiny_base, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        WriteError, match=r"file/run\S* cannot be written \(Not a directory\); choose another storage_path="
    ):
        launch(run_config(dataset, tiny_base), tmp_path / "file/run", {})


def test_a_cluster_that_stays_too_small_is_given_up(ray_session, dataset, tiny_base):
    workers = run_config(dataset, tiny_base).workers
    given_up = threading.Event()
    with Shortage(dataclasses.replace(workers, num=99, cpus_per_worker=1, wait_seconds=0), given_up.set) as shortage:
        assert given_up.wait(60)
    assert re.search(r"lost what the run needs: .* needs 99 CPUs, .*run the same command again", str(shortage.reason))
    with Shortage(dataclasses.replace(workers, num=1, wait_seconds=0), given_up.set) as shortage:
        time.sleep(5)
    assert shortage.reason is None
