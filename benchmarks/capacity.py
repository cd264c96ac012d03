"""A model of a service of many engines, event by event: arrivals, queue, router, batches that images join and leave.

    python benchmarks/capacity.py runs/simulated/simulated.json --engines 1000 --users 1000000

It is fitted to runs of `benchmarks/simulated.py`: what a step takes beyond the U-Net, and what an image takes outside
the steps. What it is off by for those runs is printed beside what it says of more engines.
"""

import argparse
import heapq
import json
import math
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


@dataclass(frozen=True)
class Kind:
    """What a request asks for."""

    share: float  # of all requests
    steps: int
    size: float = 1.0  # pixels, of those that the base was trained for
    lines: int = 2  # of the U-Net's batch: two with guidance


@dataclass(frozen=True)
class Service:
    """One kind of engines, and how many."""

    engines: int
    max_rows: int
    step: Callable[[float, float], float]  # lines, mean size -> seconds of the U-Net
    step_extra: float = 0.0  # seconds of each step beside the U-Net
    image_extra: float = 0.0  # seconds of each image outside the steps, beside them
    joining: float = 0.0  # seconds that each image holds its engine's steps up when it joins
    queue: int = 1_000_000  # images that may wait in all; more are refused
    static: bool = False  # images join an engine only when none is on its way


@dataclass
class _Engine:
    waiting: deque = field(default_factory=deque)
    rows: list = field(default_factory=list)  # [steps left, kind, arrival]
    busy: bool = False

    @property
    def load(self) -> int:
        return len(self.waiting) + len(self.rows)


@dataclass(frozen=True)
class Outcome:
    """Of one simulation, once it has warmed up."""

    latencies: Sequence[float]  # s, of images that arrived in the time that counts
    refused: int
    seconds: float
    steps: int  # of all engines
    busy: float  # mean share of time that an engine computes

    def quantile(self, share: float) -> float:
        """Seconds that so many of the images took at most."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan

    @property
    def throughput(self) -> float:
        """Images a second."""
        return len(self.latencies) / self.seconds


def poisson(rate: float, seconds: float, rng: random.Random) -> Iterator[float]:
    """Times of arrivals."""
    now = rng.expovariate(rate)
    while now < seconds:
        yield now
        now += rng.expovariate(rate)


def simulate(service: Service, kinds: Sequence[Kind], rate: float, seconds: float, seed: int = 0) -> Outcome:
    """Poisson arrivals of `rate` images a second for `seconds`; the first fifth warms up and does not count.

    Each image goes to the less loaded of two engines drawn at random, as Ray Serve's router does.
    """
    rng = random.Random(seed)
    engines = [_Engine() for _ in range(service.engines)]
    shares, warm = [kind.share for kind in kinds], seconds / 5
    arrivals = poisson(rate, seconds, rng)
    events: list[tuple[float, int, int]] = []  # time, order, engine whose step ends; -1: an arrival
    order, found, refused, steps, busy, waiting = 0, list[float](), 0, 0, 0.0, 0

    def begin(number: int, now: float) -> None:
        """Let images join, and start a step."""
        nonlocal order, steps, busy, waiting
        engine, joined = engines[number], 0
        if not (service.static and engine.rows):
            while engine.waiting and len(engine.rows) < service.max_rows:
                engine.rows.append(engine.waiting.popleft())
                joined, waiting = joined + 1, waiting - 1
        engine.busy = bool(engine.rows)
        if engine.busy:
            sizes: dict[float, int] = {}  # lines of each: an image of another size does not share the call
            for _, kind, _ in engine.rows:
                sizes[kind.size] = sizes.get(kind.size, 0) + kind.lines
            taken = sum(service.step(lines, size) for size, lines in sizes.items())
            taken += service.step_extra + joined * service.joining
            order, steps, busy = order + 1, steps + 1, busy + max(0.0, min(taken, seconds - now))
            heapq.heappush(events, (now + taken, order, number))

    def arrive(at: float | None) -> None:
        nonlocal order
        if at is not None:
            order += 1
            heapq.heappush(events, (at, order, -1))

    arrive(next(arrivals, None))
    while events:
        now, _, number = heapq.heappop(events)
        if number < 0:
            arrive(next(arrivals, None))
            if waiting >= service.queue:
                refused += now >= warm
                continue
            some = rng.sample(range(len(engines)), min(2, len(engines)))
            number = min(some, key=lambda i: engines[i].load)
            (kind,) = rng.choices(kinds, shares)
            engines[number].waiting.append([kind.steps, kind, now])
            waiting += 1
            if not engines[number].busy:
                begin(number, now)
            continue
        engine, left = engines[number], []
        for row in engine.rows:
            row[0] -= 1
            if row[0]:
                left.append(row)
            elif row[2] >= warm:
                found.append(now - row[2] + service.image_extra)
        engine.rows = left
        begin(number, now)
    return Outcome(found, refused, seconds - warm, steps, busy / seconds / len(engines))


def capacity(service: Service, kinds: Sequence[Kind]) -> float:
    """Images a second of all engines with full batches, of sizes in the proportions of `kinds`."""
    total = sum(kind.share for kind in kinds)
    rows: dict[float, float] = {}
    for kind in kinds:  # rows of a size: images on their way are there in proportion to their steps
        rows[kind.size] = rows.get(kind.size, 0) + kind.share * kind.steps
    whole = sum(rows.values())
    lines = {
        size: next(k.lines for k in kinds if k.size == size) * service.max_rows * n / whole for size, n in rows.items()
    }
    mean_steps = whole / total
    images = service.max_rows / mean_steps  # that end in a step
    step = sum(service.step(n, size) for size, n in lines.items()) + service.step_extra + images * service.joining
    return service.engines * images / step


def fitted(found: dict, times: Callable[[float, float], float]) -> Service:
    """One engine with what runs of `benchmarks/simulated.py` measured of it.

    Of a lone image: what it takes beyond its steps. Of full batches: what a step takes beyond the U-Net, and what an
    image that joins holds it up, which a run tells together; the share that the lone image's step shows is the step's.
    """
    one, full, about = found["alone"], found["peak"], found["about"]
    kinds = [Kind(**each) for each in about["kinds"]]
    step_extra = max(0.0, one["step_s"] - times(kinds[0].lines, kinds[0].size))
    image_extra = max(0.0, one["latency_s"] - kinds[0].steps * one["step_s"])
    service = Service(1, about["max_rows"], times, step_extra, image_extra)
    # Images a second that the model lets one engine have, without joining, against those that were measured.
    joining = max(0.0, 1 / full["images_per_s"] - 1 / capacity(service, kinds))
    return Service(1, about["max_rows"], times, step_extra, image_extra, joining)


def compared(service: Service, found: dict) -> list[str]:
    """A table of what was measured and what the model says of the same runs."""
    kinds = [Kind(**each) for each in found["about"]["kinds"]]
    lines = ["| engines | load | p50 measured, s | model | p99 measured, s | model |", "|---|---|---|---|---|---|"]
    for row in (row for row in found["loads"] if "p50" in row):
        said = simulate(_many(service, row["engines"]), kinds, row["rate"], max(600.0, 300 / row["rate"]))
        cells = [row["p50"], said.quantile(0.5), row["p99"], said.quantile(0.99)]
        lines.append(
            f"| {row['engines']} | {100 * row['load']:.0f} % | {' | '.join(f'{cell:.2f}' for cell in cells)} |"
        )
    return lines


def predicted(service: Service, kinds: Sequence[Kind], engines: int, users: int, a_day: float) -> list[str]:
    """A table of many engines under several loads, and what they do for so many users."""
    many = _many(service, engines)
    most = capacity(many, kinds)
    lines = [f"{engines} engines make {most:.1f} images a second at most.", ""]
    lines += ["| load | images/s | p50, s | p99, s | busy |", "|---|---|---|---|---|"]
    for load in (0.5, 0.8, 0.95):
        said = simulate(many, kinds, load * most, max(60.0, 20_000 / most))
        cells = f"{load * most:.1f} | {said.quantile(0.5):.2f} | {said.quantile(0.99):.2f} | {said.busy:.2f}"
        lines.append(f"| {100 * load:.0f} % | {cells} |")
    rate = users * a_day / 86400
    needed = math.ceil(rate / (0.8 * most / engines))
    text = f"{users} users with {a_day:g} images a day each are {rate:.1f} images a second"
    return [*lines, "", f"{text}: {needed} engines at 80 %, evenly over the day."]


def _many(service: Service, engines: int) -> Service:
    return replace(service, engines=engines)


def main() -> None:
    from serving.engine.simulated import StepTimes

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="simulated.json")
    parser.add_argument("--engines", type=int, default=1000)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--images", type=float, default=10, help="of each user a day")
    options = parser.parse_args()
    found = json.loads(options.runs.read_text())
    service = fitted(found, StepTimes.read(found["about"]["step_times"]).seconds)
    kinds = [Kind(**each) for each in found["about"]["kinds"]]
    extra = f"{1000 * service.step_extra:.1f} ms a step, {1000 * service.image_extra:.0f} ms an image"
    print(f"beyond the U-Net: {extra}, {1000 * service.joining:.1f} ms of all rows for one that joins\n")
    print(
        "\n".join(
            [*compared(service, found), "", *predicted(service, kinds, options.engines, options.users, options.images)]
        )
    )


if __name__ == "__main__":
    main()
