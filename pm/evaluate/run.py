"""Run an evaluation: base, adapters and drawings through the protocol, then write the report."""

import dataclasses
from pathlib import Path
from typing import Any

from pm.choice import import_modules
from pm.errors import CheckpointError, ConfigError
from pm.evaluate import protocol, tables
from pm.evaluate.config import EvaluateConfig
from pm.evaluate.picture import grid
from pm.evaluate.protocol import ReportRow
from pm.evaluate.record import record
from pm.evaluate.trials import Trial, drawings, toon_trials
from pm.files import check_place, write_json, write_text, writing
from pm.model.adapter import check_adapter
from pm.model.base import load_base
from pm.model.files import read_json
from pm.sample.grid import save_png
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.run import pick_device, pick_dtype
from pm.toon.probe import Probe, load_probe

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


def evaluate(config: EvaluateConfig) -> str:
    """Write `report.json`, `report.md` and `grid.png` into `config.output`; returns the report's text.

    Raises:
        CheckpointError: base, probe or an adapter is missing, or an adapter belongs to another base.
        ConfigError: the base draws something else than the probe reads, or an adapter takes fewer ID images than the
            protocol gives.
        WriteError: the output cannot be written.
    """
    import_modules(config.modules)
    check_place(config.output, "output=")
    check_world(config.base.path, config.probe)
    adapters, probe = find_adapters(config.adapters), load_probe(config.probe)
    base = load_base(config.base.path, (), family=config.base.family)
    for adapter in adapters:  # before the first minutes of work
        check_adapter(adapter, base)
    trials = toon_trials(config.protocol)
    print(f"{len(trials)} prompts × {config.protocol.images} images for {config.protocol.identities} unseen people")
    drawn = drawings(trials, config.protocol.size)
    ceiling = protocol.score(CEILING, trials, drawn, probe, config.metrics)
    floor = _measure(config, None, trials, 0, FLOOR, probe)
    rows = [floor, ceiling]
    for name, path in zip(_names(adapters), adapters, strict=True):
        for references in sorted(config.protocol.references):
            label = f"{name}, {references} reference{'s' * (references > 1)}"
            rows.append(_measure(config, path, trials, references, label, probe))
    return _write(config, trials, rows)


def check_world(base: str, probe: str) -> None:
    """Refuse a base of photographs, whose portraits the probe would read without understanding anything.

    A base of the toon world says so in its `model_index.json`, or, from versions before 0.2, has its probe beside it.

    Raises:
        ConfigError: it is a base of photographs.
    """
    folder = Path(base).expanduser()
    if folder.is_dir():
        index = read_json(folder / "model_index.json")
        if index.get("_drawn") or (folder / "probe.safetensors").exists():
            return
    raise ConfigError(
        f"base.path={base} is no base of the toon world, and the probe {Path(probe).absolute()} reads nothing but its "
        "drawings; use base=toon, or one that python -m pm.toon.pretrain made"
    )


def _names(adapters: list[Path]) -> list[str]:
    """Short names that differ: the folder of each adapter, the folder above it too where needed."""
    names = [p.parent.name if p.stem == "adapter" else p.stem for p in adapters]
    if len(set(names)) == len(names):
        return names
    return [str(p.parent) for p in adapters]


def _measure(
    config: EvaluateConfig, adapter: Path | None, trials: list[Trial], references: int, label: str, probe: Probe
) -> ReportRow:
    device = pick_device(config.device)
    pipeline = PhotoMakerPipeline.from_pretrained(
        config.base.path,
        adapter,
        config.base.vision_path,
        device,
        pick_dtype(config.dtype, device),
        schedule=config.sampler.schedule,
        family=config.base.family,
    )
    if pipeline.max_id_images is not None and references > pipeline.max_id_images:
        raise ConfigError(
            f"protocol.references={references}, but {adapter and adapter.absolute()} takes at most "
            f"{pipeline.max_id_images}; leave it out of protocol.references"
        )
    print(label, flush=True)
    images, seconds = protocol.portraits(pipeline, trials, references, config.sampler, progress=True)
    about: dict[str, Any] = {}
    if pipeline.photomaker is not None:
        adapter_config = pipeline.photomaker.config
        about = {"compose": adapter_config.compose.label, "merge": adapter_config.merge, "references": references}
    return protocol.score(label, trials, images, probe, config.metrics, seconds, **about)


def _write(config: EvaluateConfig, trials: list[Trial], rows: list[ReportRow]) -> str:
    floor, ceiling, *adapters = rows
    shown = [floor, *adapters, ceiling]
    text = tables.main_table(shown, floor, ceiling)
    composing, seeds = tables.composing_table(adapters), tables.seeds_table(adapters)
    counts = config.protocol
    document = [
        "# Evaluation on the toon world",
        f"{counts.identities} held-out people × {counts.prompts} prompts × {counts.images} images; percent, with 95 % "
        "bootstrap intervals over people. 'Share of the gap': identity between floor (0 %) and ceiling (100 %).",
        text,
        *(["## Over seeds: mean ± standard deviation", seeds] if seeds else []),
        *(["## Embedding composing choices (the form of the paper's Table 2a)", composing] if composing else []),
        "## Probe accuracy per attribute",
        tables.attribute_table(shown),
        "![references, the base alone, portraits, drawings](grid.png)",
    ]
    report = {"floor": _json(floor), "ceiling": _json(ceiling), "rows": [_json(r) for r in adapters]}
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
    result |= {name: None if score is None else score.mean for name, score in row.scores.items()}
    result["seconds_per_image"] = row.seconds_per_image
    result["interval_95"] = {name: [v.low, v.high] for name, v in row.scores.items() if v is not None}
    result |= {"compose": row.compose, "merge": row.merge, "references": row.references}
    return result | {"per_attribute": row.per_attribute}
