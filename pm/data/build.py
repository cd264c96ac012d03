"""The Ray Data graph: raw photos → dataset.

One block is one shard: the photos of some whole identities, which become one output file. Blocks stream through the
stages and many are under way at once; pixels are read late, so that what waits between the stages is small. Models
live in actor pools. A finished shard stays finished: running again goes on with the others.
"""

import contextlib
import inspect
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from tqdm import tqdm

from pm.data import captions, crop, faces, ingest, masks, verify
from pm.data.config import PreprocessConfig
from pm.data.output import finish, finished_shards, open_output, write_shard
from pm.data.plan import IDENTITIES, STAGES, Report, describe, plan_shards, settings_of
from pm.data.precompute import BaseSizes, Precompute, base_sizes
from pm.data.preview import write_preview
from pm.data.records import Photo, from_table, read_meta, to_table
from pm.errors import ConfigError, DataError, PmError
from pm.ray_env import ray_init


def build(config: PreprocessConfig) -> Report:
    """Make the dataset, or go on with an unfinished one; starts Ray if it is needed and not there.

    Raises:
        DataError: no photos, the output folder is somebody else's, or every photo was rejected.
        CheckpointError: the base, the vision tower or the probe is missing.
        ConfigError: the cluster cannot hold the workers asked for.
    """
    start, config = time.monotonic(), _absolute(config)
    root = _photos_root(config)
    photos = ingest.find_photos(root)
    sizes = base_sizes(config.base)
    settings = settings_of(config, sizes, ingest.listing_digest(root, photos))
    _preflight(config)
    count = 0
    if not open_output(config.output, settings, config.overwrite):
        shards = plan_shards(photos, config.workers.shard_photos)
        done = finished_shards(config.output)
        pending = [shard for shard in shards if shard[0].shard not in done]
        count = sum(map(len, pending))
        _run(config, str(root), sizes, pending, already=len(photos) - count)
        meta = finish(config.output, STAGES, describe(config, sizes, settings))
        write_preview(config.output, root)
    else:
        meta = read_meta(config.output)
    if meta["counts"]["kept"] == 0:
        reasons = ", ".join(
            f"{r} {n}" for stage in meta["counts"]["stages"].values() for r, n in stage["rejected"].items()
        )
        raise DataError(
            f"all {meta['counts']['found']} photos of {root} were rejected ({reasons}); look at "
            f"{Path(config.output, 'preview.png')}, loosen that stage's setting and run with overwrite=true"
        )
    return Report(meta, count, time.monotonic() - start)


def _absolute(config: PreprocessConfig) -> PreprocessConfig:
    """Local paths made absolute: workers may run in another folder. Hub ids stay."""

    def local(path: str) -> str:
        return str(Path(path).absolute()) if Path(path).exists() else path

    return replace(
        config,
        output=str(Path(config.output).absolute()),
        dataset=replace(config.dataset, root=str(Path(config.dataset.root).absolute())),
        base=replace(config.base, path=local(config.base.path), vision_path=local(config.base.vision_path)),
        probe=config.probe and local(config.probe),
    )


def _photos_root(config: PreprocessConfig) -> Path:
    """The raw photos; toon photos are drawn first where the settings say how many and there are none."""
    root, source = Path(config.dataset.root), config.dataset
    if source.identities is not None and not (root.is_dir() and any(root.iterdir())):
        from pm.toon.world import write_photos

        wanted = {name: getattr(source, name) for name in ("identities", "photos_per_identity", "seed", "split")}
        write_photos(root, **wanted, defects=source.defects)
    return root


def _preflight(config: PreprocessConfig) -> None:
    """Fail here with one line for what would fail in every worker with a traceback."""
    faces.make_detector(config.face, config.dataset.root)
    masks.make_masker(config.mask, config.dataset.root)
    faces.make_embedder(config.embedder, config.probe)


def _run(
    config: PreprocessConfig, root: str, sizes: BaseSizes, shards: Sequence[Sequence[Photo]], *, already: int
) -> None:
    """Send the shards through the graph and show the progress."""
    if not shards:
        return
    ray_init()
    bar = tqdm(desc="preprocess", unit="photo", total=already + sum(map(len, shards)), initial=already)
    bar.set_postfix_str("starting workers")
    kept = 0
    with bar, _quiet_ray_data(), _user_errors():
        try:
            for note in _graph(config, root, sizes, shards).iter_rows():
                kept += note["kept"]
                bar.set_postfix_str(f"kept {kept}, rejected {bar.n - already + note['found'] - kept}", refresh=False)
                bar.update(note["found"])
        except KeyboardInterrupt:
            print("\nstopped; the same command goes on where this one was", file=sys.stderr)
            raise


def _graph(
    config: PreprocessConfig, root: str, sizes: BaseSizes, shards: Sequence[Sequence[Photo]]
) -> ray.data.Dataset:
    """The stages in order. Cheap ones are fused by Ray into one task for each block."""
    face_actors, base_actors, gpus = _pools(config)
    tasks = {"num_cpus": config.workers.task_cpus}
    data = ray.data.from_blocks([to_table(shard) for shard in shards])
    data = _map(data, lambda photos: ingest.ingest(photos, root, config.dataset.min_side), **tasks)
    if config.face.name == "sidecar" and config.embedder == "none":
        data = _map(data, _FaceStage(config, root), **tasks)
    else:
        data = _map(data, _FaceStage, (config, root), size=face_actors, num_cpus=config.workers.actor_cpus)
    data = _map(data, lambda photos: _prepare(photos, config, root, sizes), **tasks)
    arguments = (config, sizes, "cuda" if gpus else "cpu")
    pool = {"size": base_actors, "num_cpus": config.workers.actor_cpus, "num_gpus": gpus}
    data = _map(data, _BaseStage, arguments, **pool)
    return data.map_batches(lambda table: _write(table, config), batch_size=None, batch_format="pyarrow", **tasks)


def _prepare(photos: list[Photo], config: PreprocessConfig, root: str, sizes: BaseSizes) -> list[Photo]:
    """The stages between the two kinds of model."""
    photos = verify.verify(photos, config.verify, config.embedder, config.min_photos)
    photos = crop.crop_photos(photos, root, config.crop, sizes.least_side)
    masker = masks.make_masker(config.mask, root)
    photos = masks.mask_photos(photos, masker, config.mask.min_overlap, sizes.resolution)
    return captions.caption_photos(photos, captions.make_captioner(config.caption, root))


def _write(table: pa.Table, config: PreprocessConfig) -> pa.Table:
    photos = verify.require_photos(from_table(table), config.min_photos, IDENTITIES)
    return pa.Table.from_pylist([write_shard(photos, config.output)])


class _FaceStage:
    def __init__(self, config: PreprocessConfig, root: str):
        self.root, self.min_size = root, config.face.min_size
        self.detector = faces.make_detector(config.face, root)
        self.embedder = faces.make_embedder(config.embedder, config.probe)

    def __call__(self, photos: list[Photo]) -> list[Photo]:
        return faces.find_faces(photos, self.root, self.detector, self.embedder, self.min_size)


class _BaseStage:
    def __init__(self, config: PreprocessConfig, sizes: BaseSizes, device: str):
        self.precompute = Precompute(
            config.base, sizes, device=device, dtype=config.dtype, batch_size=config.workers.batch_size
        )

    def __call__(self, photos: list[Photo]) -> list[Photo]:
        return self.precompute(photos)


def _map(
    data: ray.data.Dataset, stage: Callable | type, arguments: tuple = (), size: int | None = None, **resources: Any
) -> ray.data.Dataset:
    """Put a stage (photos → photos) into the graph, as tasks, or as `size` actors if it is a class."""
    options: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow", **resources}
    if size is None:
        return data.map_batches(lambda table: to_table(stage(from_table(table))), **options)

    class Actor:
        def __init__(self) -> None:
            self.stage = stage(*arguments)

        def __call__(self, table: pa.Table) -> pa.Table:
            return to_table(self.stage(from_table(table)))

    Actor.__name__ = stage.__name__.strip("_")
    options |= {"compute": ray.data.ActorPoolStrategy(size=size), **_restart_options()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ray.util.annotations.RayDeprecationWarning)
        return data.map_batches(Actor, **options)


def _restart_options() -> dict[str, Any]:
    """On a single node, no restarts: what kills an actor (mostly memory) kills its successor too, and a second run goes
    on where the first stopped. With restarts on, Ray also prints an alarming error about constructor arguments.

    Ray 2.64 takes the only parameter for this away; then the restarts stay on, and the message.
    """
    known = "ray_remote_args_fn" in inspect.signature(ray.data.Dataset.map_batches).parameters
    if not known or len(ray.nodes()) > 1:
        return {}
    return {"ray_remote_args_fn": lambda: {"max_restarts": 0, "max_task_retries": 0}}


def _pools(config: PreprocessConfig) -> tuple[int, int, float]:
    """Face actors, base actors and GPUs for each of those, from the settings and what the cluster has.

    Raises:
        ConfigError: they would leave no CPU for the tasks; Ray would wait for ever.
    """
    have, want = ray.cluster_resources(), config.workers
    cpus, gpus = have.get("CPU", 0), have.get("GPU", 0)
    per_actor = want.gpus if want.gpus is not None else float(gpus > 0)
    face_actors = want.faces or max(1, int(cpus // 4))
    base_actors = want.precompute or max(1, int(gpus // per_actor) if per_actor else int(cpus // 4))
    needed = (face_actors + base_actors) * want.actor_cpus + want.task_cpus
    if needed > cpus or base_actors * per_actor > gpus:
        raise ConfigError(
            f"workers need {needed:g} CPUs and {base_actors * per_actor:g} GPUs, Ray has {cpus:g} and {gpus:g}; "
            "lower workers.faces, workers.precompute, workers.actor_cpus or workers.gpus"
        )
    return face_actors, base_actors, per_actor


@contextlib.contextmanager
def _quiet_ray_data() -> Iterator[None]:
    """Our one progress bar instead of Ray Data's log; and one block stays one block, whatever its size."""
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
