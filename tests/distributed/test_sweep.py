"""`train.py -m` as a user types it: a cell fails, the other does not, and the failed one is run again alone."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import ray

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(900)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess:
    # This session's Ray, with its token: starting one takes seconds.
    environment = os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_a_failed_cell_stops_no_other_and_is_run_again_alone(ray_session, tiny_dataset, tiny_base, tmp_path):
    small = {"name": "ablation", "base.path": tiny_base, "base.vision_path": tiny_base / "image_encoder"}
    small |= {"data": tiny_dataset, "train.steps": 2, "train.validate_every": "null", "engine": "ddp"}
    small |= {"workers.num": 1, "adapter.lora_rank": 4, "adapter.train_layers": 1, "seed": "0,1"}
    # Somebody else's run is in the way of the first cell.
    cell = "adapter.lora_rank-4_adapter.train_layers-1_engine-ddp_seed-{}_train.steps-2"
    taken = tmp_path / "runs/ablation" / cell.format(0)
    taken.mkdir(parents=True)
    (taken / "config.yaml").write_text("seed: 7\n")

    script = str(ROOT / "pipelines/train.py")
    arguments = [f"{key}={value}" for key, value in small.items()]
    first = run([sys.executable, script, "-m", "experiment=smoke", *arguments], tmp_path)
    assert first.returncode == 1, first.stdout + first.stderr
    assert first.stderr.strip().splitlines()[-1] == "error: 1 of 2 cells failed; the others are finished"
    assert "Traceback" not in first.stderr
    assert (tmp_path / "runs/ablation" / cell.format(1) / "adapter.safetensors").exists()
    assert not (taken / "adapter.safetensors").exists()
    assert "1 of 2 (1 failed)" in (tmp_path / "runs/ablation/sweep.md").read_text()

    (taken / "config.yaml").unlink()
    (again,) = [line.split("again: ")[1] for line in first.stdout.splitlines() if "again: " in line]
    python, *alone = shlex.split(again)
    assert python == "python" and "seed=0" in alone
    second = run([sys.executable, *alone], tmp_path)
    assert second.returncode == 0, second.stdout + second.stderr
    assert (taken / "adapter.safetensors").exists()
    table = (tmp_path / "runs/ablation/sweep.md").read_text()
    assert "| seeds |" in table and "| 2 " in table and "±" in table and "failed" not in table
