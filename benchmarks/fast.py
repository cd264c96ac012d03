"""What the fast profile saves, and what it costs in identity, prompt and likeness: each part alone, and together.

    python benchmarks/fast.py                                     # on the toon base
    python benchmarks/fast.py --people 2 --images 1 --rounds 1    # whether it runs at all
    python benchmarks/fast.py --only plain,caching --output runs/fast

The parts: the guidance interval and the deep features of `sampler=fast` (`conf/sampler/fast.yaml` says how much), and
linear layers in 8 bits (`--quantize`; torchao, the extra `quantize`). All sample with its schedule and steps, the same
people, prompts and seeds. Identity and prompt are the probe's, in percent, as in `evaluate`; the distance is perceptual
(SqueezeNet, 0 for equal pictures), to the same picture of `plain`; what that means, the distance of two pictures of
`plain` with different seeds tells. Differences are paired by person, with 95 % intervals. What is timed is a batch of
guided rows, in turns in one process, prompts and photos encoded before: processor time on the CPU, the clock once all
is done on a GPU. Rows of the table are written to `fast.json` as they come, and the same command goes on.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from pm.config import from_mapping  # noqa: E402
from pm.evaluate.config import EvaluateConfig  # noqa: E402
from pm.evaluate.metrics.base import Metric, Pictures  # noqa: E402
from pm.evaluate.models.perceptual import Distances, load_squeezenet  # noqa: E402
from pm.evaluate.statistics import Interval, bootstrap, paired  # noqa: E402
from pm.files import write_bytes  # noqa: E402
from pm.methods.photomaker import StackedId  # noqa: E402
from pm.methods.trial import Trial  # noqa: E402
from pm.sample.config import SamplerConfig  # noqa: E402
from pm.sample.devices import pick_device, pick_dtype  # noqa: E402
from pm.sample.pipeline import PhotoMakerPipeline  # noqa: E402
from pm.sample.presets import preset  # noqa: E402
from pm.sample.request import Request  # noqa: E402
from serving.compose import composed  # noqa: E402

SIDE = 224  # px, at which the perceptual distance is measured
REFERENCES = 4


@dataclass(frozen=True)
class Part:
    """What of the profile is on."""

    interval: bool = False
    caching: bool = False
    eight: bool = False

    def sampler(self, drawn: bool) -> SamplerConfig:
        fast = preset("fast").on(drawn)
        own: dict[str, Any] = {} if self.interval else {"guidance_start": 0.0, "guidance_end": 1.0}
        return replace(fast, **own, **({} if self.caching else {"cache_interval": 1}))


PARTS = {
    "plain": Part(),
    "interval": Part(interval=True),
    "caching": Part(caching=True),
    "8 bits": Part(eight=True),
    "interval and caching": Part(interval=True, caching=True),
    "all": Part(interval=True, caching=True, eight=True),
}


class Lab:
    """The pipelines that are compared, and the people, prompts and seeds that they have in common."""

    def __init__(self, options: argparse.Namespace) -> None:
        own = [f"adapters=[{options.adapter}]", "metrics=[identity,prompt]", f"base.path={options.base}"]
        own += [f"protocol.identities={options.people}", f"protocol.images={options.images}"]
        own += [f"protocol.references=[{REFERENCES}]", "tracker=none", f"output={options.output}"]
        self.config = from_mapping(EvaluateConfig, composed("evaluate", own))
        self.options, self.device = options, pick_device(options.device)
        self.trials: list[Trial] = self.config.suite.trials()
        self._pipelines: dict[bool, PhotoMakerPipeline] = {}

    def pipeline(self, eight: bool) -> PhotoMakerPipeline:
        if eight not in self._pipelines:
            self._pipelines[eight] = PhotoMakerPipeline.from_pretrained(
                self.config.base.path,
                self.options.adapter,
                device=self.device,
                dtype=pick_dtype(self.options.dtype, self.device),
                quantize=self.options.quantize if eight else None,
                compile=self.options.compile,
            )
        return self._pipelines[eight]

    def requests(self, part: Part, trials: Sequence[Trial]) -> list[list[Request]]:
        """Of each trial, with its photos encoded."""
        pipeline = self.pipeline(part.eight)
        method = StackedId(pipeline, part.sampler(pipeline.base.drawn))
        states = [method.personalise(trial.references, trial.class_word, 0) for trial in trials]
        return [method.requests(state, trial, REFERENCES) for state, trial in zip(states, trials, strict=True)]

    def pictures(self, part: Part, shift: int = 0) -> list[Pictures]:
        """Of all trials; `shift`: of the seeds."""
        asked = self.requests(part, self.trials)
        flat = [replace(each, seed=each.seed + shift) for requests in asked for each in requests]
        drawn = iter(self.pipeline(part.eight).generate(flat, batch_size=self.options.batch))
        return [
            Pictures(trial, [np.asarray(next(drawn)) for _ in requests])
            for trial, requests in zip(self.trials, asked, strict=True)
        ]

    def seconds(self, names: Sequence[str]) -> dict[str, list[float]]:
        """Of a batch, in turns: name → rounds."""
        rows = {}
        for name in names:
            (request, *_), *_ = self.requests(PARTS[name], self.trials[:1])
            batch = [replace(request, seed=seed) for seed in range(self.options.rows)]
            rows[name] = self.pipeline(PARTS[name].eight).prepare(batch)
        found: dict[str, list[float]] = {name: [] for name in names}
        for round_ in range(self.options.rounds + 1):
            for name in names:
                sampler = self.pipeline(PARTS[name].eight).sampler()
                for row in rows[name]:
                    sampler.add(row)
                begin = self.now()
                while len(sampler):
                    sampler.step()
                sampler.finished()
                if round_:  # the first one warms up
                    found[name].append(self.now() - begin)
        return found

    def now(self) -> float:
        """Seconds: of the processor, or of the clock once a GPU has done all."""
        if self.device.type == "cpu":
            return time.process_time()
        torch.accelerator.synchronize(self.device)
        return time.perf_counter()


def scores(metric: Metric, pictures: Sequence[Pictures]) -> dict[str, float]:
    """Mean of each person."""
    found: dict[str, list[float]] = {}
    for each, measured in zip(pictures, metric.measure(pictures), strict=True):
        found.setdefault(each.trial.person, []).extend(measured.values)
    return {person: float(np.mean(values)) for person, values in found.items()}


def apart(distances: Distances, some: Sequence[Pictures], others: Sequence[Pictures]) -> dict[str, float]:
    """Mean distance of picture to picture, of each person."""
    found: dict[str, list[float]] = {}
    for a, b in zip(some, others, strict=True):
        values = [float(distances([x], [y])[0, 0]) for x, y in zip(a.images, b.images, strict=True)]
        found.setdefault(a.trial.person, []).extend(values)
    return {person: float(np.mean(values)) for person, values in found.items()}


def measured(lab: Lab, names: Sequence[str], known: dict[str, Any]) -> dict[str, Any]:
    """Rows of the table by name, those that are known and those that are made now."""
    metrics = {choice.name: choice.load("cpu") for choice in lab.config.metrics}
    distances, model = load_squeezenet(SIDE, "cpu")
    plain: list[Pictures] | None = None
    for name in names:
        if name in known["rows"]:
            continue
        plain = plain or lab.pictures(PARTS["plain"])
        pictures = plain if name == "plain" else lab.pictures(PARTS[name])
        row: dict[str, Any] = {metric: scores(loaded, pictures) for metric, loaded in metrics.items()}
        row["distance"] = apart(distances, pictures, plain)
        if name == "plain":  # what another seed changes
            row["other_seed"] = apart(distances, lab.pictures(PARTS["plain"], shift=1), plain)
        known["rows"][name] = row
        known["distance_by"] = asdict(model)
        save(lab, known)
    if set(known.get("seconds", {})) != set(names):
        known["seconds"] = lab.seconds(names)
        save(lab, known)
    return known


def save(lab: Lab, known: Mapping[str, Any]) -> None:
    lab.options.output.mkdir(parents=True, exist_ok=True)
    write_bytes(lab.options.output / "fast.json", json.dumps(known, indent=1).encode())


def table(known: Mapping[str, Any], names: Sequence[str]) -> str:
    """In Markdown."""
    rows, plain = known["rows"], known["rows"]["plain"]
    lines = ["| | identity | prompt | distance to plain | seconds | times as fast |", "|---|---|---|---|---|---|"]
    base = statistics.median(known["seconds"]["plain"])
    for name in names:
        own = statistics.median(known["seconds"][name])
        cells = [
            _score(rows[name][metric], None if name == "plain" else plain[metric]) for metric in ("identity", "prompt")
        ]
        far = bootstrap(list(rows[name]["distance"].values()))
        lines.append(f"| {name} | {' | '.join(cells)} | {_plain(far)} | {own:.2f} | {base / own:.2f} |")
    other = _plain(bootstrap(list(plain["other_seed"].values())))
    return "\n".join([*lines, "", f"Two pictures of plain with different seeds are {other} apart."])


def _score(values: Mapping[str, float], plain: Mapping[str, float] | None) -> str:
    found = str(bootstrap(list(values.values())))
    difference = None if plain is None else paired(values, plain)
    return found if difference is None else f"{found}, difference {difference}"


def _plain(interval: Interval) -> str:
    return f"{interval.mean:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=str(ROOT / "assets/toon"))
    parser.add_argument("--adapter", default=str(ROOT / "assets/toon/adapter.safetensors"))
    parser.add_argument("--people", type=int, default=64)
    parser.add_argument("--images", type=int, default=2, help="of each prompt")
    parser.add_argument("--rows", type=int, default=4, help="of the batch that is timed")
    parser.add_argument("--rounds", type=int, default=5, help="of timing")
    parser.add_argument("--batch", type=int, default=16, help="pictures sampled together")
    parser.add_argument("--only", help="parts, with commas: " + ", ".join(PARTS))
    parser.add_argument("--quantize", default="int8", choices=["int8", "fp8", "int8_dynamic", "fp8_dynamic"])
    parser.add_argument("--compile", default="off", choices=["off", "regional", "full"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--output", type=Path, default=Path("runs/fast"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = ["plain", *(name for name in options.only.split(",") if name != "plain")] if options.only else list(PARTS)
    for name in names:
        if name not in PARTS:
            parser.error(f"{name!r} is no part; use {', '.join(PARTS)}")
    lab, file = Lab(options), options.output / "fast.json"
    about = {name: value for name, value in vars(options).items() if name not in ("output", "only", "rounds")}
    about["fingerprint"] = lab.pipeline(False).base.fingerprint
    known = json.loads(file.read_text()) if file.exists() else {}
    if known.get("about") != about:
        known = {"about": about, "rows": {}}
    print(table(measured(lab, names, known), names))


if __name__ == "__main__":
    main()
