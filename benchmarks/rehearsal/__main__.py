"""SDXL rehearsed without a GPU: memory and time of every stage, beside what docs/scaling.md predicts.

    make rehearsal                                   # hours on two cores, 24 GiB of memory, 45 GiB of disk
    python -m benchmarks.rehearsal --size tenth      # the same architecture at a tenth of the width: minutes

A folder with random weights in SDXL's and CLIP ViT-L/14's published shapes is written; then preprocessing, two steps of
training under each engine, a kill and a resume, every format of export, a portrait, a served request and an evaluation.
Each stage runs in a process of its own; its row is in <output>/results.json as soon as it ends, and the same command
goes on with the stages that are not there. It exits with 1 where a stage failed or needed more than --limit.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.fullsize import here
from benchmarks.fullsize.budget import disk, known, predict
from benchmarks.fullsize.results import Results
from benchmarks.fullsize.shapes import SIZES
from benchmarks.fullsize.watch import GIB, Watch, missing
from benchmarks.rehearsal import stages
from benchmarks.rehearsal.stages import Place, place_of

COLUMNS = {
    "predicted GiB": "predicted",
    "held GiB": "held",
    "with mapped files GiB": "peak",
    "off": lambda row: f"{row['held'] / row['predicted'] - 1:+.0%}" if "held" in row else None,
    "seconds": lambda row: f"{row['seconds']:.0f}" if "seconds" in row else None,
    "": lambda row: row.get("error", "").split("\n")[-1][:120] or ("over the limit" if row.get("over") else ""),
}


def main() -> None:
    args = parse()
    place = place_of(args.size, args.output, args.workers)
    if args.only == "killed":
        return stages.killed(place)
    if args.only is not None:
        return print(json.dumps(stages.run(args.only, place)))
    results = rehearse(place, args.limit, force=args.force, wanted=args.stages)
    print(f"\n{results.table(COLUMNS, [name for name in stages.names() if name in results.rows])}")
    bad = [name for name, row in results.rows.items() if "error" in row or row.get("over")]
    if bad:
        raise SystemExit(f"not as it should be: {', '.join(bad)}; logs in {place.home / 'logs'}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="full", choices=SIZES)
    parser.add_argument("--output", default="runs/rehearsal", help="folder of everything; resumable")
    parser.add_argument("--limit", type=float, default=24.0, help="GiB of memory that no stage may exceed; it is ended")
    parser.add_argument("--workers", type=int, default=0, help="of Ray in preprocessing and training; 0: without Ray")
    parser.add_argument("--stages", nargs="+", default=stages.names(), choices=stages.names(), metavar="STAGE")
    parser.add_argument("--force", action="store_true", help="do not ask whether memory and disk will do")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # a stage in this process
    return parser.parse_args()


def rehearse(
    place: Place, limit: float, *, force: bool = False, wanted: list[str] | None = None, inside: bool = False
) -> Results:
    """Run what was not run yet.

    Args:
        place: where.
        limit: GiB; a stage that holds more is killed.
        force: do not look at free memory and disk first.
        wanted: which stages; None: all.
        inside: in this process, one after the other; their memory then includes what those before left behind.

    Raises:
        SystemExit: memory or disk will not do for a stage.
    """
    numbers = known(place.size)
    results = Results(place.home, {"size": place.size.name, "workers": place.workers})
    for name in wanted or stages.names():
        if results.done(name):
            continue
        predicted = predict(numbers, name)
        lacking = None if force else missing(predicted, place.home, disk(numbers, name))
        if lacking is not None:
            raise SystemExit(f"rehearsal: {name}: {lacking}")
        print(f"{name}: {predicted:.1f} GiB predicted ...", file=sys.stderr, flush=True)
        facts = _inside(name, place) if inside else _child(name, place, limit)
        results.put(name, facts | {"predicted": round(predicted, 2)})
        if "error" in facts:
            print(f"{name}: {facts['error']}", file=sys.stderr, flush=True)
            break  # what follows needs it
    return results


def _inside(name: str, place: Place) -> dict[str, Any]:
    with Watch(os.getpid()) as watch:
        facts = stages.run(name, place)
    return facts | _measured(watch)


def _child(name: str, place: Place, limit: float) -> dict[str, Any]:
    log = place.home / "logs" / f"{name.replace('/', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    arguments = ["--size", place.size.name, "--output", str(place.home), "--workers", str(place.workers)]
    command = [sys.executable, "-m", "benchmarks.rehearsal", *arguments, "--only", name]
    over = False
    with log.open("w") as stream:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, cwd=here.ROOT, process_group=0)
        with Watch(child.pid) as watch:
            try:
                while child.poll() is None and not over:
                    over = watch.held > limit * GIB
                    time.sleep(0.2)
            finally:  # also when this is interrupted; with all of its process group
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                said = child.stdout.read().decode()
                child.wait()
    found = _measured(watch) | {"over": over}
    if over:
        return found | {"error": f"held more than {limit:g} GiB and was ended"}
    if child.returncode:
        return found | {"error": _tail(log) or f"exit code {child.returncode}"}
    return found | json.loads(said.splitlines()[-1])


def _measured(watch: Watch) -> dict[str, float]:
    return {
        "held": round(watch.held / GIB, 2),
        "peak": round(watch.peak / GIB, 2),
        "seconds": round(watch.seconds, 1),
    }


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").strip().splitlines()[-3:])


if __name__ == "__main__":
    main()
