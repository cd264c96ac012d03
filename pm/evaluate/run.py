"""Run an evaluation: methods and drawings through the suite's trials, then write the report."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pm.choice import import_modules
from pm.errors import CheckpointError
from pm.evaluate import tables
from pm.evaluate.config import EvaluateConfig
from pm.evaluate.metrics.base import Metric
from pm.evaluate.picture import grid
from pm.evaluate.record import record
from pm.evaluate.scores import ReportRow, Scored, load_metrics, score
from pm.files import check_place, write_json, write_text, writing
from pm.methods.base import Method, MethodChoice
from pm.methods.photomaker import PhotoMakerMethod
from pm.methods.trial import Trial
from pm.model.base import load_base
from pm.sample.config import SamplerConfig
from pm.sample.grid import save_png
from pm.sample.run import pick_device, pick_dtype

FLOOR, CEILING = "base alone (floor)", "drawn by the toon world (ceiling)"


def find_adapters(paths: tuple[str, ...]) -> list[Path]:
    """Adapter files in the order given; a folder stands for every `adapter.safetensors` below it.

    Raises:
        CheckpointError: a path does not exist, or a folder holds no adapter.
    """
    found = []
    for path in map(Path, paths):
        files = [path] if path.is_file() else sorted(path.rglob("adapter.safetensors"))
        if not files:
            raise CheckpointError(
                f"no adapter at {path.absolute()}; give a file, or a folder with an adapter.safetensors in it"
            )
        found += files
    return found


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row that a method makes."""

    label: str
    choice: MethodChoice
    references: int | None  # None: it uses none


def entries_of(config: EvaluateConfig) -> list[Entry]:
    """The rows of the methods in their order, then those of the adapters.

    Raises:
        CheckpointError: there is no adapter where one is named.
    """
    adapters = [PhotoMakerMethod("photomaker", str(path)) for path in find_adapters(config.adapters)]
    choices = [*config.methods, *adapters]
    entries = []
    for label, choice in zip(_labels(choices), choices, strict=True):
        if not choice.needs_references:
            entries.append(Entry(label, choice, None))
            continue
        for count in sorted(config.protocol.references):
            entries.append(Entry(f"{label}, {count} reference{'s' * (count > 1)}", choice, count))
    return entries


def _labels(choices: list[MethodChoice]) -> list[str]:
    """Short names that differ: of adapters the folder, and the folder above it too where needed."""
    labels = [choice.label() for choice in choices]
    for i, choice in enumerate(choices):
        if labels.count(choice.label()) > 1 and choice.files():
            labels[i] = str(Path(choice.files()[0]).parent)
    return labels


def evaluate(config: EvaluateConfig) -> str:
    """Write `report.json`, `report.md` and `grid.png` into `config.output`; returns the report's text.

    Raises:
        CheckpointError: the base or an adapter is missing, or an adapter belongs to another base.
        ConfigError: the suite says nothing about the base, or an adapter takes fewer ID images than the protocol gives.
        WriteError: the output cannot be written.
    """
    import_modules(config.modules)
    check_place(config.output, "output=")
    config.suite.check(config.base)
    entries = entries_of(config)
    base = load_base(config.base.path, (), family=config.base.family)
    for entry in entries:  # before the first minutes of work
        entry.choice.check(base, entry.references or 0)
    metrics = load_metrics(config.metrics, str(pick_device(config.device)))
    trials, counts = config.suite.trials(), config.protocol
    print(f"{len(trials)} prompts × {counts.images} images for {counts.identities} unseen people")
    rows = [_made(config, entry, trials, metrics) for entry in entries]
    drawn = config.suite.ceiling(trials)
    ceiling = None if drawn is None else score(CEILING, trials, drawn, metrics)
    return _write(config, trials, rows, ceiling)


def _made(config: EvaluateConfig, entry: Entry, trials: list[Trial], metrics: Mapping[str, Metric | str]) -> ReportRow:
    device = pick_device(config.device)
    method = entry.choice.load(config.base, config.sampler, device, pick_dtype(config.dtype, device))
    count = entry.references
    print(entry.label, flush=True)
    images, seconds = portraits(method, trials, count or 0, config.sampler, progress=True)
    return score(entry.label, trials, images, metrics, seconds, references=count, about=method.about)


def portraits(
    method: Method, trials: list[Trial], references: int, sampler: SamplerConfig, progress: bool
) -> tuple[list[list[np.ndarray]], float]:
    """All images of all trials with `references` ID images each.

    Returns:
        For each trial a list of images, uint8 [S, S, 3]; and seconds per image.
    """
    states: dict[str, Any] = {}
    requests = []
    for trial in trials:
        if trial.person not in states:
            shown = trial.references[:references]
            states[trial.person] = method.personalise(shown, trial.class_word, trial.seeds[0])
        requests += method.requests(states[trial.person], trial, references)
    start = time.perf_counter()
    made = method.pipeline.generate(requests, batch_size=sampler.batch_size, progress=progress)
    images = [np.asarray(image) for image in made]
    seconds = (time.perf_counter() - start) / len(images)
    each = len(trials[0].seeds)
    return [images[i : i + each] for i in range(0, len(images), each)], seconds


def _write(config: EvaluateConfig, trials: list[Trial], rows: list[ReportRow], ceiling: ReportRow | None) -> str:
    floor = next((row for row in rows if row.references is None), None)
    if floor is not None and ceiling is not None:
        rows = [dataclasses.replace(row, name=FLOOR) if row is floor else row for row in rows]
        floor = next(row for row in rows if row.name == FLOOR)
    shown = [*rows, *([] if ceiling is None else [ceiling])]
    heads = {choice.name: choice.head for choice in config.metrics}
    text = tables.main_table(shown, floor, ceiling, heads)
    adapters = [row for row in rows if row is not floor]
    composing, seeds = tables.composing_table(adapters, heads), tables.seeds_table(adapters, heads)
    counts = config.protocol
    document = [
        f"# {config.suite.title()}",
        f"{counts.identities} held-out people × {counts.prompts} prompts × {counts.images} images; percent, with 95 % "
        "bootstrap intervals over people. 'Share of the gap': identity between floor (0 %) and ceiling (100 %).",
        text,
        *(["## Over seeds: mean ± standard deviation", seeds] if seeds else []),
        *(["## Embedding composing choices (the form of the paper's Table 2a)", composing] if composing else []),
        "## Probe accuracy per attribute",
        tables.attribute_table(shown),
        "![references, the base alone, portraits, drawings](grid.png)",
    ]
    report: dict[str, Any] = {"floor": floor and _json(floor), "ceiling": ceiling and _json(ceiling)}
    report["rows"] = [_json(row) for row in adapters]
    if adapters:  # the headline is the first adapter with the most references
        report["adapter"] = _json(adapters[len(counts.references) - 1])
    report |= {"protocol": dataclasses.asdict(counts), "sampler": dataclasses.asdict(config.sampler)}
    output = Path(config.output)
    with writing(output, "output="):
        write_json(output / "report.json", report, indent=2)
        write_text(output / "report.md", "\n\n".join(document) + "\n")
        save_png(output / "grid.png", grid(trials, shown, config.grid_identities), {})
    record(config.tracker, output, shown)
    return "\n\n".join([text, *filter(None, [seeds, composing])])


def _json(row: ReportRow) -> dict[str, Any]:
    result: dict[str, Any] = {"name": row.name}
    result |= {name: None if (v := row.interval(name)) is None else v.mean for name in row.scores}
    result["seconds_per_image"] = row.seconds_per_image
    result["interval_95"] = {name: [v.low, v.high] for name in row.scores if (v := row.interval(name)) is not None}
    result |= {"compose": row.compose, "merge": row.merge, "references": row.references}
    result["metrics"] = {name: _details(scored) for name, scored in row.scores.items()}
    return result | {"per_attribute": row.per_attribute}


def _details(scored: Scored) -> dict[str, Any]:
    if scored.why:
        return {"why": scored.why}
    model = None if scored.model is None else dataclasses.asdict(scored.model)
    return {"model": model, "per_person": dict(scored.per_person), "per_prompt": dict(scored.per_prompt)}
