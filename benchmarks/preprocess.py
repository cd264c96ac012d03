"""Photos per second of each stage: a plain loop over the stages against the graph with 1 and with 2 workers.

    python benchmarks/preprocess.py dataset=toon dataset.identities=64
    python benchmarks/preprocess.py dataset=folder dataset.root=photos dataset.min_side=256 face.min_size=80

Takes the same overrides as pipelines/preprocess.py. The loop runs the same functions as the graph, in one process,
shard by shard, without checkpoints. Also measured: what listing and planning cost the driver, in time and memory.
"""

import csv
import os
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hydra import compose, initialize_config_dir  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

from pm.config import from_mapping  # noqa: E402
from pm.data.config import PreprocessConfig  # noqa: E402
from pm.data.run.shards import plan_shards, shard_limit  # noqa: E402
from pm.data.run.steps import stages_of  # noqa: E402
from pm.data.source.listing import Listing  # noqa: E402
from pm.data.stages.stage import Place  # noqa: E402
from pm.model.base_sizes import base_sizes  # noqa: E402


def load(overrides: list[str]) -> PreprocessConfig:
    OmegaConf.register_new_resolver("root", lambda path: str(ROOT / path), replace=True)
    with initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")):
        cfg = OmegaConf.to_container(compose("preprocess", overrides), resolve=True)
    cfg.pop("forget", None)  # the command's own
    return from_mapping(PreprocessConfig, cfg)


def plain_loop(config: PreprocessConfig) -> tuple[float, int, dict[str, tuple[int, float]]]:
    """Seconds in all, photos, and (photos in, seconds) of each stage."""
    start = time.monotonic()
    sizes = base_sizes(config.base)
    stages = [work for stage in stages_of(config) for work in stage.build(Place(sizes))]
    ready = time.monotonic()
    spent: dict[str, tuple[int, float]] = {}
    total = 0
    with Listing(config.dataset) as listing:
        for photos in plan_shards(listing.photos(), shard_limit(listing.found, config.workers.shard_photos)):
            total += len(photos)
            seen = set()
            for stage in stages:
                into, before = sum(p.reject is None for p in photos), time.monotonic()
                photos = stage.function(photos)
                count, seconds = spent.get(stage.name, (0, 0.0))
                into = 0 if stage.name in seen else into  # one stage may have two parts
                spent[stage.name] = (count + into, seconds + time.monotonic() - before)
                seen.add(stage.name)
    print(f"loading the models: {ready - start:.1f} s", file=sys.stderr)
    return time.monotonic() - ready, total, spent


def on_ray(config: PreprocessConfig, workers: int, cpus: int) -> tuple[float, dict]:
    """Seconds of `build`, Ray's own start not counted, and `dataset.json`'s stages."""
    import ray

    from pm.data.run.build import build
    from pm.ray_env import ray_init

    ray_init(num_cpus=cpus, address="local")
    try:
        with tempfile.TemporaryDirectory() as folder:
            workers_config = replace(config.workers, faces=workers, masks=workers, captions=workers, precompute=workers)
            report = build(replace(config, output=f"{folder}/out", workers=workers_config))
    finally:
        ray.shutdown()
    return report.seconds, report.meta["counts"]["stages"]


def driver_cost(rows: int) -> tuple[float, float]:
    """Seconds and MiB (growth of the peak) to list and plan a manifest of so many URLs, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.csv")
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["identity", "url"])
            writer.writerows(
                [f"person-{i // 100:07d}_woman", f"https://example.org/photos/{i}.jpg"] for i in range(rows)
            )
        source = load(["dataset=urls", f"dataset.manifest={path}"]).dataset
        child = os.fork()
        if child == 0:
            before, start = _peak(), time.monotonic()
            with Listing(source) as listing:
                shards = sum(1 for _ in plan_shards(listing.photos(), shard_limit(listing.found, 128)))
            Path(folder, "said").write_text(f"{time.monotonic() - start} {_peak() - before} {shards}")
            os._exit(0)
        os.waitpid(child, 0)
        seconds, growth, _ = Path(folder, "said").read_text().split()
    return float(seconds), float(growth)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    config = load(sys.argv[1:] or ["dataset=toon"])
    print("| URLs listed and planned | seconds | growth of the driver's memory |\n|---|---|---|")
    for rows in (10_000, 100_000, 1_000_000):
        seconds, growth = driver_cost(rows)
        print(f"| {rows:,} | {seconds:.1f} | {growth:.0f} MiB |", flush=True)

    from pm.data.run.build import absolute

    config = absolute(config)
    config.dataset.prepare()
    loop, photos, spent = plain_loop(config)
    print(f"\n{photos} photos, plain loop: {loop:.1f} s, {photos / loop:.1f} photos/s\n")
    ray_runs = {n: on_ray(config, n, cpus=max(2, 2 * n)) for n in (1, 2)}
    print("| stage | photos | loop: photos/s | 1 worker: photos/s of a worker | 2 workers: photos/s of a worker |")
    print("|---|---|---|---|---|")
    for stage, (count, seconds) in spent.items():
        rates = [f"{ray_runs[n][1].get(stage, {}).get('photos_per_worker_second', 0):.1f}" for n in (1, 2)]
        print(f"| {stage} | {count} | {count / max(seconds, 1e-9):.1f} | {' | '.join(rates)} |")
    for n, (seconds, _) in ray_runs.items():
        rate = f"{photos / seconds:.1f} photos/s, {loop / seconds:.2f} x the loop"
        print(f"\nall stages, {n} worker(s) in a pool: {seconds:.1f} s, {rate}")


if __name__ == "__main__":
    main()
