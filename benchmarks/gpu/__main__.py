"""The first hour with a GPU, in order of worth; every row is kept at once, and the same command does what is left.

    python -m benchmarks.gpu --minutes 30 --output runs/gpu        # SDXL's real size on the GPU
    python -m benchmarks.gpu --dry --output runs/gpu-dry           # all of it on the CPU, a tenth as wide

No network, no Ray, no Hydra: models have random weights in the published shapes. What the machine lacks is a row that
says so. <output>/results.json holds the rows, <output>/report.md the tables. How to bring what is not installed there:
benchmarks/gpu/README.md.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.fullsize.models import NotAvailable
from benchmarks.fullsize.results import Results, machine
from benchmarks.fullsize.shapes import FULL, TENTH
from benchmarks.gpu import ceilings, parts, precision, sampling, toon, training
from benchmarks.gpu.rig import Rig, Row
from pm.markdown import table

STEPS = {
    "ceilings": ceilings,
    "precision": precision,
    "sampling": sampling,
    "parts": parts,
    "training": training,
    "toon": toon,
}
_HIDDEN = {"at"}


def main() -> None:
    args = parse()
    device = "cpu" if args.dry else args.device
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("there is no GPU here; --dry rehearses all of it on the CPU, a tenth as wide")
    rig = Rig(Path(args.output).absolute(), TENTH if args.dry else FULL, device)
    if args.dry:
        rig.steps, rig.repeats, rig.compiled = 4, 1, ("off",)
    rig.deadline = time.monotonic() + 60 * args.minutes
    results = run(rig, args.only)
    print((rig.home / "report.md").read_text())
    bad = [name for name, row in results.rows.items() if "error" in row]
    if bad:
        raise SystemExit(f"{len(bad)} rows failed: {'; '.join(bad)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="runs/gpu", help="folder of models, results.json and report.md; resumable")
    parser.add_argument("--minutes", type=float, default=30.0, help="no row begins after this")
    parser.add_argument("--only", nargs="+", default=list(STEPS), choices=STEPS, help="these steps")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dry", action="store_true", help="on the CPU, a tenth as wide")
    return parser.parse_args()


def run(rig: Rig, only: list[str]) -> Results:
    """Measure every row that is not there yet, until the deadline.

    A row that fails is kept with its error and tried again by the next run; those after it are measured all the same.
    """
    results = Results(rig.home, {"size": rig.size.name, "device": rig.device, "steps": rig.steps} | machine())
    for step in only:
        for name, row in STEPS[step].rows(rig).items():
            full_name = f"{step}: {name}"
            if results.done(full_name) or rig.left() <= 0:
                continue
            print(f"{full_name} ...", file=sys.stderr, flush=True)
            results.put(full_name, _measured(rig, row))
            write_report(rig, results)
    rig.free()
    write_report(rig, results)
    return results


def _measured(rig: Rig, row: Row) -> dict[str, Any]:
    start = time.monotonic()
    try:
        found = row()
    except NotAvailable as reason:
        return {"not_available": str(reason)}
    except torch.OutOfMemoryError as error:
        found = {"out_of_memory": str(error).splitlines()[0][:200]}
    except Exception as error:  # whatever it is, the hour goes on
        found = {"error": f"{type(error).__name__}: {error}"[:500]}
        rig.free()
    return found | {"row_s": round(time.monotonic() - start, 1)}


def write_report(rig: Rig, results: Results) -> None:
    """`report.md`: a table for each step, ready for docs/benchmarks.md."""
    about = ", ".join(f"{key} {value}" for key, value in results.about.items())
    lines = [f"`python -m benchmarks.gpu`: {about}, {time.strftime('%Y-%m-%d')}.", ""]
    for step in STEPS:
        rows = {name.partition(": ")[2]: row for name, row in results.rows.items() if name.startswith(f"{step}: ")}
        columns = list(dict.fromkeys(key for row in rows.values() for key in row if key not in _HIDDEN))
        if rows:
            cells = [[name, *(_cell(row, key) for key in columns)] for name, row in rows.items()]
            lines += [f"### {step.capitalize()}", "", table(["", *columns], cells), ""]
    (rig.home / "report.md").write_text("\n".join(lines))


def _cell(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key, "")
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Mapping):
        return "<br>".join(f"{name}: {each}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value).replace("\n", " ").replace("|", "/")


if __name__ == "__main__":
    main()
