"""Trains over two Ray nodes of this machine, takes one away, and brings two others; run by test_cluster.py in a process
of its own.

python nodes.py <dataset> <base> <run folder> <settings as JSON>
"""

import json
import os
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

sys.path[:1] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from pm.errors import Interrupted  # noqa: E402
from pm.ray_env import ray_init  # noqa: E402
from pm.train.checkpoint import newest_complete, read_checkpoint  # noqa: E402
from pm.train.run.launch import launch  # noqa: E402
from pm.train.run.summary import CHECKPOINTS, STOP  # noqa: E402
from support.training import run_config  # noqa: E402


def main(dataset: str, base: str, run_dir: str, settings: str) -> None:
    notice = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 5}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": notice}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    os.environ["RAY_ADDRESS"] = cluster.address
    ray_init()
    config = run_config(
        dataset,
        base,
        **json.loads(settings),
        train__steps=100_000,  # until it is asked to stop
        train__checkpoint_every=5,
        train__num_to_keep=None,
        workers__num=3,
        workers__min=1,
        workers__grow_seconds=1,
        workers__cpus_per_worker=1,
    )
    with ThreadPoolExecutor() as pool:  # Ray starts nodes in the main thread only
        training = pool.submit(launch, config, run_dir, {})
        wait_for_checkpoint(training, Path(run_dir), workers=2)
        cluster.remove_node(nodes[1], allow_graceful=False)
        wait_for_checkpoint(training, Path(run_dir), workers=1)
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        wait_for_checkpoint(training, Path(run_dir), workers=3)
        Path(run_dir, STOP).touch()
        assert isinstance(training.exception(), Interrupted), training.exception()
    ray.shutdown()
    cluster.shutdown()


def wait_for_checkpoint(training: Future, folder: Path, workers: int) -> None:
    """Until the newest checkpoint is one that so many workers made."""
    while not training.done():
        newest = newest_complete(folder / CHECKPOINTS)
        if newest is not None and read_checkpoint(newest).position.workers == workers:
            return
        time.sleep(0.2)
    training.result()


if __name__ == "__main__":
    main(*sys.argv[1:])
