"""Run an evaluation: base, adapters and drawings through the protocol, then write the report."""

import dataclasses
from pathlib import Path

from pm.choice import import_modules
from pm.errors import CheckpointError, ConfigError
from pm.evaluate import protocol, tables
from pm.evaluate.config import EvaluateConfig
from pm.evaluate.picture import grid
from pm.evaluate.protocol import ReportRow, Trial
from pm.evaluate.record import record
from pm.files import write_json, write_text, writing
from pm.sample.grid import save_png
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.run import pick_device, pick_dtype
from pm.toon.probe import load_probe

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
            raise CheckpointError(f"no adapter at {path}; give a file, or a folder with an adapter.safetensors in it")
        found += files
    return found


def evaluate(config: EvaluateConfig) -> str:
    """Write `report.json`, `report.md` and `grid.png` into `config.output`; returns the report's text.

    Raises:
        CheckpointError: base, probe or an adapter is missing, or an adapter belongs to another base.
        ConfigError: an adapter takes fewer ID images than the protocol gives.
    """
    import_modules(config.modules)
    adapters, probe = find_adapters(config.adapters), load_probe(config.probe)
    trials = protocol.toon_trials(config.protocol)
    print(f"{len(trials)} prompts × {config.protocol.images} images for {config.protocol.identities} unseen people")
    drawn = protocol.drawings(trials, config.protocol.size)
    ceiling = protocol.score(CEILING, trials, drawn, probe)
    floor = _measure(config, None, trials, 0, FLOOR, probe)
    rows = [floor, ceiling]
    for name, path in zip(_names(adapters), adapters, strict=True):
        for references in sorted(config.protocol.references):
            label = f"{name}, {references} reference{'s' * (references > 1)}"
            rows.append(_measure(config, path, trials, references, label, probe))
    return _write(config, trials, rows)


def _names(adapters: list[Path]) -> list[str]:
    """Short names that differ: the folder of each adapter, the folder above it too where needed."""
    names = [p.parent.name if p.stem == "adapter" else p.stem for p in adapters]
    if len(set(names)) == len(names):
        return names
    return [str(p.parent) for p in adapters]


def _measure(
    config: EvaluateConfig, adapter: Path | None, trials: list[Trial], references: int, label: str, probe
) -> ReportRow:
    device = pick_device(config.device)
    pipeline = PhotoMakerPipeline.from_pretrained(
        config.base.path,
        adapter,
        config.base.vision_path,
        device,
        pick_dtype(config.dtype, device),
        schedule=config.sampler.schedule,
    )
    if pipeline.max_id_images is not None and references > pipeline.max_id_images:
        raise ConfigError(f"protocol.references={references}, but {adapter} takes at most {pipeline.max_id_images}")
    print(label, flush=True)
    images, seconds = protocol.portraits(pipeline, trials, references, config.sampler, progress=True)
    about = {}
    if pipeline.photomaker is not None:
        adapter_config = pipeline.photomaker.config
        about = {"compose": adapter_config.compose.label, "merge": adapter_config.merge, "references": references}
    return protocol.score(label, trials, images, probe, seconds, **about)


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


def _json(row: ReportRow) -> dict:
    def mean(interval):
        return None if interval is None else interval.mean

    result = {"name": row.name, "identity": row.identity.mean, "prompt": row.prompt.mean}
    result |= {"diversity": mean(row.diversity), "seconds_per_image": row.seconds_per_image}
    result["interval_95"] = {
        k: [v.low, v.high] for k in ("identity", "prompt", "diversity") if (v := getattr(row, k)) is not None
    }
    result |= {"compose": row.compose, "merge": row.merge, "references": row.references}
    return result | {"per_attribute": row.per_attribute}
