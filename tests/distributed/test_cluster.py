"""Several Ray nodes on this machine, and a cluster that is too small."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.training import run_config

from pm.errors import ConfigError
from pm.train.callbacks.metrics import read_metrics
from pm.train.checkpoint import newest_complete, read_checkpoint
from pm.train.run.context import LocalContext
from pm.train.run.plan import plan_workers
from pm.train.run.workers import run_worker

pytestmark = pytest.mark.timeout(900)
# Eight passes of one sample: steps that last while nodes come and go. Of one worker DeepSpeed is not used.
ZERO2 = {"name": "zero", "stage": 2, "deepspeed": {}}
SETTINGS = {"engine": ZERO2, "train__batch_size": 8, "train__micro_batch_size": 1, "train__ema_decay": 0.9}
SETTINGS |= {"train__lr_lora": 1e-3, "train__lr_id_encoder": 1e-3}


def test_an_elastic_run_survives_the_loss_of_a_node_and_grows_onto_new_ones(tiny_dataset, tiny_base, tmp_path):
    """Two nodes with a worker each, then one, then three, over which the batch does not divide."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    script = Path(__file__).resolve().parents[1] / "support" / "nodes.py"
    done = subprocess.run(
        [sys.executable, script, tiny_dataset, tiny_base, tmp_path / "run", json.dumps(SETTINGS)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = read_metrics(tmp_path / "run/metrics.jsonl")
    steps = len(lines)
    assert [line["step"] for line in lines] == list(range(1, steps + 1))
    states = [json.loads(p.read_text()) for p in sorted(tmp_path.glob("run/checkpoints/step-*/state.json"))]
    for made in (states, lines):
        assert [workers for workers, _ in itertools.groupby(each["workers"] for each in made)] == [2, 1, 3]
    assert [state["consumed"] for state in states] == [state["step"] * 8 for state in states]
    # The same samples with the same noise: the losses of one undisturbed process.
    alone = run_config(tiny_dataset, tiny_base, **SETTINGS, train__steps=steps, train__checkpoint_every=None)
    run_worker(alone, LocalContext(tmp_path / "alone"), {})
    expected = [line["loss"] for line in read_metrics(tmp_path / "alone/metrics.jsonl")]
    assert [line["loss"] for line in lines] == pytest.approx(expected, rel=1e-3)
    average = read_checkpoint(newest_complete(tmp_path / "run/checkpoints")).ema
    for name, value in read_checkpoint(newest_complete(tmp_path / "alone/checkpoints")).ema.items():
        torch.testing.assert_close(average[name], value, rtol=1e-3, atol=2e-4, msg=name)


def test_more_workers_than_a_cluster_has_is_an_error_after_the_stated_wait(
    ray_session, tiny_dataset, tiny_base, monkeypatch, capsys
):
    monkeypatch.setenv("RAY_ADDRESS", "joined")
    config = run_config(tiny_dataset, tiny_base, workers__num=99, workers__cpus_per_worker=1, workers__wait_seconds=3)
    with pytest.raises(ConfigError, match=r"needs 99 CPUs, Ray has 4; .*waited 3 s, workers.wait_seconds"):
        plan_workers(config.workers)
    assert "waiting up to 3 s for the cluster" in capsys.readouterr().err
