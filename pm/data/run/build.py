"""Photos → dataset, as the driver sees it: list, look ahead, send through the graph, finish."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pm.data.config import PreprocessConfig
from pm.data.dataset.preview import write_preview
from pm.data.dataset.writer import finish, finished_shards, locked, open_output
from pm.data.records import read_meta
from pm.data.run.shards import Report, describe, plan_shards, settings_of, shard_limit
from pm.data.run.steps import stages_of
from pm.data.source.listing import Listing
from pm.data.stages.stage import Stage
from pm.errors import DataError
from pm.model.base_sizes import BaseSizes, base_sizes


def build(config: PreprocessConfig) -> Report:
    """Make the dataset, or go on with an unfinished one; starts Ray if it is needed and not there.

    Raises:
        DataError: no photos, the output folder is somebody else's, or every photo was rejected.
        CheckpointError: the base, the vision tower or the probe is missing.
        ConfigError: the cluster cannot hold the workers asked for.
    """
    start, config = time.monotonic(), absolute(config)
    config.dataset.prepare()
    with Listing(config.dataset) as listing:
        sizes, stages = base_sizes(config.base), stages_of(config)
        for stage in stages:
            stage.check()
        settings, count = settings_of(config, sizes, listing.digest), 0
        with locked(config.output):
            if open_output(config.output, settings, config.overwrite):
                meta = read_meta(config.output)
            else:
                count = _run(config, sizes, stages, listing)
                meta = describe(config, sizes, settings) | {"ignored_files": dict(listing.ignored)}
                meta = finish(config.output, [stage.name for stage in stages], meta)
                write_preview(config.output, str(config.dataset.root))
    if meta["counts"]["kept"] == 0:
        reasons = ", ".join(
            f"{r} {n}" for stage in meta["counts"]["stages"].values() for r, n in stage["rejected"].items()
        )
        raise DataError(
            f"all {meta['counts']['found']} photos of {config.dataset.root} were rejected ({reasons}); look at "
            f"{Path(config.output, 'preview.png')}, loosen that stage's setting and run with overwrite=true"
        )
    return Report(meta, count, time.monotonic() - start)


def absolute(config: PreprocessConfig) -> PreprocessConfig:
    """Local paths made absolute: workers may run in another folder. Hub ids and buckets stay."""

    def local(path: str) -> str:
        return str(Path(path).absolute()) if Path(path).exists() else path

    return replace(
        config,
        output=str(Path(config.output).absolute()),
        dataset=config.dataset.absolute(),
        base=replace(config.base, path=local(config.base.path), vision_path=local(config.base.vision_path)),
        embedder=_with_local_path(config.embedder, local),
    )


def _with_local_path(part: Any, local: Callable[[str], str]) -> Any:
    """A part of the configuration with its file made absolute, if it has one."""
    return replace(part, path=local(part.path)) if hasattr(part, "path") else part


def _run(config: PreprocessConfig, sizes: BaseSizes, stages: Sequence[Stage], listing: Listing) -> int:
    """Send the shards that are not finished through the graph; how many photos they have."""
    limit = shard_limit(listing.found, config.workers.shard_photos)
    done = finished_shards(config.output)
    before = sum(len(shard) for shard in plan_shards(listing.photos(), limit) if shard[0].shard in done)
    count = listing.found - before
    if count:
        from pm.data.run.graph import run_graph  # with Ray, which takes a second

        pending = (shard for shard in plan_shards(listing.photos(), limit) if shard[0].shard not in done)
        run_graph(config, sizes, stages, pending, count, before)
    return count
