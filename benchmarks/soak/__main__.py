"""Soak tests, for hours; every one says its seed and counts, and <output>/results.json keeps them.

    python -m benchmarks.soak training --number 100           # kills of workers; equal to the undisturbed run
    python -m benchmarks.soak storage --number 30             # the same over an S3 that fails at random
    python -m benchmarks.soak asgi --number 1000000           # mutated requests to the application in this process
    python -m benchmarks.soak http --number 50000             # and over HTTP to a running server
    python -m benchmarks.soak kills --number 1000             # of replicas and ingresses, under load
    python -m benchmarks.soak load --number 120               # minutes of mixed load: memory, files, threads stay

It exits with 1 if something came out that should not. `asgi --first 123 --number 1` asks request 123 of a seed again.
"""

import argparse
import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Any

from benchmarks.fullsize.results import Results

KINDS = {"training": 100, "storage": 30, "asgi": 1_000_000, "http": 50_000, "kills": 1000, "load": 120}
_FAILS = 0.2  # share of the storage's answers
_GROWTH = 0.05  # of memory that counts as flat


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    args = parse()
    home = Path(args.output).absolute()
    home.mkdir(parents=True, exist_ok=True)
    number = args.number or KINDS[args.kind]
    row = run(args.kind, home, args.seed, number, args.first)
    Results(home, {}).put(f"{args.kind}, seed {args.seed}, {number}", row)
    print(json.dumps(row, indent=1))
    if not row["fine"]:
        raise SystemExit(f"soak {args.kind}: not as it should be; seed {args.seed}, see {home / 'results.json'}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--number", type=int, help="of kills, requests or minutes")
    parser.add_argument("--first", type=int, default=0, help="number of the first request, for asgi")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="runs/soak")
    return parser.parse_args()


def run(kind: str, home: Path, seed: int, number: int, first: int = 0) -> dict[str, Any]:
    """One soak; `fine` says whether all is as it should be.

    Args:
        kind: one of `KINDS`.
        home: folder of models and runs.
        seed: of everything random.
        number: of kills, requests or minutes.
        first: number of the first request, for asgi.
    """
    logging.getLogger("ray.serve.photomaker").setLevel(logging.WARNING)
    if kind in ("training", "storage"):
        from benchmarks.soak.training import soak

        row = soak(home, number, seed, _FAILS if kind == "storage" else 0.0)
        return row | {"fine": row["losses_equal"] and row["weights_equal"] and row["kills"] > 0}
    if kind == "asgi":
        return in_process(home, seed, number, first)
    from benchmarks.soak import server

    with server.running(home, replicas=2 if kind == "kills" else 1) as port:
        row = asyncio.run({"http": server.storm, "kills": server.kills, "load": server.load}[kind](port, seed, number))
    return row | {"fine": row["failed"] == 0 and row.get("flat", True)}


def in_process(home: Path, seed: int, number: int, first: int = 0) -> dict[str, Any]:
    """Mutated requests to the application around an engine in this process; as `run`."""
    import torch

    from benchmarks.soak.asgi import Report, growth, storm, tiny_service

    torch.set_num_threads(1)
    engine, service = tiny_service(home)

    def told(report: Report) -> None:
        print(f"{report.requests} requests, {len(report.failures)} failures, {report.memory[-1]} MiB", flush=True)

    try:
        report = asyncio.run(storm(service, seed, first, number, told))
    finally:
        engine.stop()
    grown = growth(report.memory)
    fine = not report.failures and (grown < _GROWTH or number < 10_000)
    return report.as_json() | {"first": first, "growth": round(grown, 3), "fine": fine}


if __name__ == "__main__":
    main()
