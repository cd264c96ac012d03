"""Trains over two Ray nodes of this machine and takes one away; run by test_cluster.py in a process of its own.

python two_nodes.py <dataset> <base> <run folder>
"""

import os
import sys
import threading
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from ray.cluster_utils import Cluster  # noqa: E402
from unit.train.support import run_config  # noqa: E402

from pm.ray_env import ray_init  # noqa: E402
from pm.train.callbacks import read_metrics  # noqa: E402
from pm.train.launch import launch  # noqa: E402


def main(dataset: str, base: str, run_dir: str) -> None:
    notice = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 5}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": notice}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    os.environ["RAY_ADDRESS"] = cluster.address
    ray_init()
    config = run_config(
        dataset,
        base,
        train__steps=36,
        train__checkpoint_every=5,
        train__num_to_keep=None,
        workers__num=2,
        workers__min=1,
        workers__cpus_per_worker=1,
    )

    def take_away() -> None:
        while len(read_metrics(Path(run_dir, "metrics.jsonl"))) < 12:
            time.sleep(0.05)
        cluster.remove_node(nodes[1], allow_graceful=False)
        print("node taken away", flush=True)

    threading.Thread(target=take_away, daemon=True).start()
    try:
        launch(config, run_dir, {})
    finally:
        import ray

        print(f"nodes with CPUs: {sum(n['Alive'] and n['Resources'].get('CPU', 0) > 0 for n in ray.nodes())}")
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
