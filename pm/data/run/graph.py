"""The Ray Data graph: raw photos → dataset.

One block is one shard: the photos of some whole identities, which become one output file. Blocks stream through the
steps and many are under way at once; pixels are read late, so that what waits between the steps is small. Models
live in actor pools. What a step has done with a shard stays done: running again goes on from there. The graph is built
for a window of shards at a time, so that nothing in the driver grows with the number of photos.
"""

import contextlib
import itertools
import json
import logging
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from pm.data.config import PreprocessConfig
from pm.data.dataset.preview import write_preview
from pm.data.dataset.writer import finish, finished_shards, locked, open_output
from pm.data.records import read_meta, to_table
from pm.data.run.progress import Board, Display
from pm.data.run.shards import Report, describe, plan_shards, settings_of, shard_limit
from pm.data.run.steps import Step, make_stages, preflight, stages_of, steps_of
from pm.data.run.worker import StepRunner
from pm.data.source.listing import Listing
from pm.data.source.store import is_remote
from pm.errors import ConfigError, DataError, PmError
from pm.model.base_sizes import BaseSizes, base_sizes
from pm.ray_env import ray_init
from pm.startup import collect_rarely

_WINDOW = 1024  # shards in one graph


def build(config: PreprocessConfig) -> Report:
    """Make the dataset, or go on with an unfinished one; starts Ray if it is needed and not there.

    Raises:
        DataError: no photos, the output folder is somebody else's, or every photo was rejected.
        CheckpointError: the base, the vision tower or the probe is missing.
        ConfigError: the cluster cannot hold the workers asked for.
    """
    start, config = time.monotonic(), _absolute(config)
    _draw_toon(config)
    with Listing(config.dataset) as listing:
        sizes = base_sizes(config.base)
        settings = settings_of(config, sizes, listing.digest)
        preflight(config)
        count = 0
        with locked(config.output):
            if not open_output(config.output, settings, config.overwrite):
                count = _run(config, sizes, listing)
                meta = describe(config, sizes, settings) | {"ignored_files": dict(listing.ignored)}
                meta = finish(config.output, stages_of(config), meta)
                write_preview(config.output, config.dataset.root)
            else:
                meta = read_meta(config.output)
    if meta["counts"]["kept"] == 0:
        reasons = ", ".join(
            f"{r} {n}" for stage in meta["counts"]["stages"].values() for r, n in stage["rejected"].items()
        )
        raise DataError(
            f"all {meta['counts']['found']} photos of {config.dataset.root} were rejected ({reasons}); look at "
            f"{Path(config.output, 'preview.png')}, loosen that stage's setting and run with overwrite=true"
        )
    return Report(meta, count, time.monotonic() - start)


def _absolute(config: PreprocessConfig) -> PreprocessConfig:
    """Local paths made absolute: workers may run in another folder. Hub ids and buckets stay."""

    def local(path: str) -> str:
        return str(Path(path).absolute()) if Path(path).exists() else path

    root = str(config.dataset.root)
    manifest = config.dataset.manifest and local(config.dataset.manifest)
    source = replace(config.dataset, root=root if is_remote(root) else str(Path(root).absolute()), manifest=manifest)
    return replace(
        config,
        output=str(Path(config.output).absolute()),
        dataset=source,
        base=replace(config.base, path=local(config.base.path), vision_path=local(config.base.vision_path)),
        embedder=_with_local_path(config.embedder, local),
    )


def _with_local_path(part: Any, local: Callable[[str], str]) -> Any:
    """A part of the configuration with its file made absolute, if it has one."""
    return replace(part, path=local(part.path)) if hasattr(part, "path") else part


def _draw_toon(config: PreprocessConfig) -> None:
    """Toon photos are drawn first where the settings say how many and there are none.

    Raises:
        DataError: there are some, drawn with other settings.
    """
    root, source = Path(config.dataset.root), config.dataset
    if source.identities is None:
        return
    from pm.toon.world import DRAWN_FILE, write_photos

    wanted = {name: getattr(source, name) for name in ("identities", "photos_per_identity", "seed", "split")}
    wanted["defects"] = source.defects or {}
    if not (root.is_dir() and any(root.iterdir())):
        write_photos(root, **wanted)
    elif (note := root / DRAWN_FILE).exists() and (drawn := json.loads(note.read_text())) != wanted:
        name = next(name for name in wanted if drawn.get(name) != wanted[name])
        raise DataError(
            f"dataset.root={root} was drawn with {name}={drawn.get(name)}, asked for is {wanted[name]}; "
            "remove that folder or give another dataset.root"
        )


def _run(config: PreprocessConfig, sizes: BaseSizes, listing: Listing) -> int:
    """Send the shards that are not finished through the graph, a window at a time; how many photos they have."""
    limit = shard_limit(listing.found, config.workers.shard_photos)
    done, already = finished_shards(config.output), 0
    for shard in plan_shards(listing.photos(), limit):
        already += len(shard) if shard[0].shard in done else 0
    count = listing.found - already
    if not count:
        return 0
    ray_init()
    print(f"preprocess: {count} photos, {already} done before; starting workers", file=sys.stderr, flush=True)
    board = ray.remote(num_cpus=0)(Board).remote(stages_of(config))
    pending = (to_table(s) for s in plan_shards(listing.photos(), limit) if s[0].shard not in done)
    run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    with Display(lambda: ray.get(board.read.remote(), timeout=5), count, already) as display:
        try:
            with _quiet_ray_data(), _user_errors():
                while window := list(itertools.islice(pending, _WINDOW)):
                    for note in _graph(config, sizes, window, run, board).iter_rows():
                        display.finished(note)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the same command goes on where this one was") from None
        finally:
            ray.kill(board)
    return count


def _graph(
    config: PreprocessConfig, sizes: BaseSizes, shards: Sequence[pa.Table], run: str, board: Any
) -> ray.data.Dataset:
    """The steps in order: tasks, or as many actors as `_pools` says where a step holds a model."""
    steps, data = steps_of(config), ray.data.from_blocks(shards)
    pools = _pools(config, steps)
    for step in steps:
        size, gpus = pools.get(step.name, (None, 0.0))
        make = _runner_of(config, sizes, step, run, board, workers=size, device="cuda" if gpus else "cpu")
        options: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow"}
        if size is None:
            data = data.map_batches(
                lambda table, make=make: make()(table), num_cpus=config.workers.task_cpus, **options
            )
            continue

        class Actor:
            def __init__(self, make: Callable[[], StepRunner]) -> None:
                self.runner = make()

            def __call__(self, table: pa.Table) -> pa.Table:
                return self.runner(table)

        Actor.__name__ = step.name.capitalize()
        options |= {"compute": ray.data.ActorPoolStrategy(size=size), "num_cpus": config.workers.actor_cpus}
        data = data.map_batches(Actor, fn_constructor_args=(make,), num_gpus=gpus, **options)
    return data


def _runner_of(
    config: PreprocessConfig, sizes: BaseSizes, step: Step, run: str, board: Any, *, workers: int | None, device: str
) -> Callable[[], StepRunner]:
    """What a worker calls to get its step ready."""
    last = step.number == steps_of(config)[-1].number

    def report(stage: str, counts: Mapping[str, float]) -> None:
        board.add.remote(stage, dict(counts))

    def make() -> StepRunner:
        collect_rarely()
        stages = lambda: make_stages(step.stages, config, sizes, device, workers or 1)  # noqa: E731
        return StepRunner((step.name, step.number), stages, config.output, run, report, last, workers)

    return make


def _pools(config: PreprocessConfig, steps: Sequence[Step]) -> dict[str, tuple[int, float]]:
    """For each step with actors, their number and the GPUs of each, from the settings and what the cluster has.

    Raises:
        ConfigError: they would leave no CPU for the tasks; Ray would wait for ever.
    """
    have, want = ray.cluster_resources(), config.workers
    cpus, gpus = have.get("CPU", 0), have.get("GPU", 0)
    names = [step.name for step in steps if step.pool]
    uses = {"download": False, "faces": config.face.uses_gpu or config.embedder.uses_gpu, "masks": config.mask.uses_gpu}
    on_gpu = [name for name in names if uses.get(name, True)]
    per_actor = want.gpus if want.gpus is not None else (1 / len(on_gpu) if gpus else 0.0)
    usual = max(1, int(gpus / (per_actor * len(on_gpu)) + 1e-6) if per_actor else int(cpus // 4))
    pools = {}
    for name in names:
        share = per_actor if name in on_gpu else 0.0
        pools[name] = (getattr(want, name) or (usual if share else max(1, int(cpus // 4))), share)
    needed = sum(size for size, _ in pools.values()) * want.actor_cpus + want.task_cpus
    needed_gpus = sum(size * share for size, share in pools.values())
    if needed > cpus or needed_gpus > gpus + 1e-6:
        settings = ", ".join(f"workers.{name}" for name in names)
        raise ConfigError(
            f"workers need {needed:g} CPUs and {needed_gpus:g} GPUs, Ray has {cpus:g} and {gpus:g}; "
            f"lower {settings}, workers.actor_cpus or workers.gpus"
        )
    return pools


@contextlib.contextmanager
def _quiet_ray_data() -> Iterator[None]:
    """Our one display instead of Ray Data's log; and one block stays one block, whatever its size."""
    context, log = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, context.target_max_block_size, log.level
    context.enable_progress_bars, context.target_max_block_size = False, None
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars, context.target_max_block_size = before[:2]
        log.setLevel(before[2])


@contextlib.contextmanager
def _user_errors() -> Iterator[None]:
    """A `PmError` raised in a worker arrives wrapped by Ray; hand on the error itself."""
    try:
        yield
    except ray.exceptions.RayError as error:
        inner: BaseException | None = error
        while inner is not None and not isinstance(inner, PmError):
            inner = getattr(inner, "cause", None) or inner.__cause__
        if inner is None:
            raise
        raise type(inner)(str(getattr(inner, "cause", inner))) from error
