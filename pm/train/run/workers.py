"""One worker's part of a run: build model, data and engine, train, export. The same with and without Ray."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from pm.cpus import available_cpus
from pm.data.config import SamplesConfig
from pm.data.dataset.reader import IdentityDataset, Stored
from pm.data.loading.loader import PREFETCH, Loader
from pm.gpus import set_float32
from pm.model.adapter import adapter_parameters, adapter_state, meta_of
from pm.model.adapter_file import save_adapter
from pm.model.base import BaseModel, load_base
from pm.model.base_sizes import base_sizes
from pm.model.compiled import as_written
from pm.model.trained import TrainedAdapter
from pm.protect.people import Record, read_people, record_of, write_people
from pm.track.base import RunInfo
from pm.train.callbacks.base import Callback
from pm.train.callbacks.metrics import MetricsFile
from pm.train.callbacks.profiling import Profile
from pm.train.callbacks.progress import Progress
from pm.train.callbacks.tracking import Tracked
from pm.train.checkpoint import check_origin, read_checkpoint
from pm.train.config import TrainConfig
from pm.train.diffusion import noise_schedule
from pm.train.engine.base import weights_replaced
from pm.train.loop import Trainer
from pm.train.run.card import write_card
from pm.train.run.config import RunConfig
from pm.train.run.context import TrainContext
from pm.train.run.memory import OutOfMemory
from pm.train.run.model import new_engine, new_model
from pm.train.run.summary import ADAPTER, label, write_summary
from pm.train.step import choose_precision

# How preprocess prepares ID photos: a square around the face, noise outside the person's mask.
CROP_MODE = "face+mask"
_MOST_LOADERS = 4  # processes that decode for one GPU, unless told otherwise


def run_worker(
    config: RunConfig, context: TrainContext, settings: Mapping[str, Any], callbacks: list[Callback] | None = None
) -> dict[str, Any]:
    """Train, or resume training, and write `adapter.safetensors`. Called on every rank.

    Args:
        config: the run.
        context: this worker's rank, and where checkpoints go.
        settings: the whole config as plain values, for the tracker.
        callbacks: instead of the usual ones (metrics file, progress, tracker).

    Returns:
        the last metrics. Without `summary.json` if the run was asked to stop before its end.

    Raises:
        DataError: dataset missing, damaged, or made for another base.
        CheckpointError: base or checkpoint missing, damaged, of another shape, base or dataset.
        ConfigError: the loss is NaN or infinite, or the GPU's memory is too small.
    """
    set_float32(exact=config.train.precision != "tf32")
    memory = OutOfMemory(config, context)
    try:
        return _run(config, context, settings, callbacks, memory)
    except torch.OutOfMemoryError as error:
        raise memory.judged(error) from error


def _run(
    config: RunConfig,
    context: TrainContext,
    settings: Mapping[str, Any],
    callbacks: list[Callback] | None,
    memory: OutOfMemory,
) -> dict[str, Any]:
    progress = Progress(context.run_dir) if context.rank == 0 else None
    if callbacks is None:
        callbacks = _callbacks(config, context, settings, progress)
    base, dataset = _load(config, context, progress)
    folder = context.restore()
    saved = read_checkpoint(folder) if folder is not None else None
    memory.resumed_at = None if saved is None else saved.position.step
    config = replace(config, adapter=config.adapter.for_dataset(dataset.face_embedding, f"dataset {dataset.path}"))
    provenance = origin(config, base, dataset)
    if saved is not None and folder is not None:
        check_origin(folder, saved.position.provenance, provenance)
    if context.rank == 0:
        write_people(context.run_dir, provenance["people"])
    photomaker = new_model(config, base)
    engine = new_engine(config, context, base, photomaker, saved, progress)
    loader = _loader(config, context, base, dataset)
    trainer = Trainer(config.train, context, engine, loader, callbacks, provenance=provenance, profiled=config.profile)
    trainer.validate = _validation(config, context, base, photomaker, dataset, trainer)
    if saved is not None and folder is not None:
        trainer.restore(saved, folder)
        saved = None  # gigabytes of this host's memory, for each worker
    try:
        metrics = trainer.fit()
    finally:
        loader.close()
    if trainer.stopped:
        for callback in callbacks:
            callback.on_stop(trainer.step)
        return metrics
    extra = {"preprocess": provenance["photos"], "people": provenance["people"]}
    export(trainer, photomaker, context, step=trainer.step, run=config.name, **extra)
    if context.rank == 0:
        write_summary(context.run_dir, config, metrics, trainer.seconds, provenance["dataset"])
        write_card(context.run_dir, asdict(config))
    for callback in callbacks:
        callback.on_end(metrics)
    return metrics


def export(trainer: Trainer, photomaker: TrainedAdapter, context: TrainContext, **extra: Any) -> None:
    """Write `adapter.safetensors`: the moving average of the weights if there is one, else the weights. Collective."""
    average = trainer.ema.gather(everywhere=True) if trainer.ema is not None else None
    engine = trainer.engine
    # ZeRO-3 keeps partitions; the id encoder's frozen layers are part of the file, so they are gathered too.
    with weights_replaced(engine, average), engine.gather_params(adapter_parameters(photomaker).values()):
        if context.rank == 0:
            meta = meta_of(photomaker, crop_mode=CROP_MODE, project_version=project_version(), **extra)
            save_adapter(context.run_dir / ADAPTER, adapter_state(photomaker), meta)


def origin(config: RunConfig, base: BaseModel, dataset: IdentityDataset) -> dict[str, Any]:
    """What a checkpoint was made with; a run resumes only with the same base and dataset."""
    settings = dataset.meta.get("settings", {})
    return {
        "base": base.fingerprint,
        "dataset": dataset.fingerprint(),
        "project": project_version(),
        "config": asdict(config),
        "photos": {name: settings[name] for name in ("face", "mask", "crop") if name in settings},
        "people": people_of(config, dataset),
    }


def people_of(config: RunConfig, dataset: IdentityDataset) -> list[Record]:
    """Who goes into the adapter: the people of the dataset, and those of the adapter that the run starts from."""
    before = [] if config.init is None else read_people(config.init) or []
    return [record_of(dataset.identities, config.name, dataset.fingerprint()), *before]


def project_version() -> str:
    """Version of the installed project; "0" when it runs from a checkout that is not installed."""
    try:
        return metadata.version("photomaker-ray")
    except metadata.PackageNotFoundError:
        return "0"


def samples_config(train: TrainConfig) -> SamplesConfig:
    """How the loader draws training samples."""
    return SamplesConfig(
        min_references=train.min_references,
        max_references=train.max_references,
        null_text=train.null_text,
        masked_loss=train.masked_loss,
    )


def _load(config: RunConfig, context: TrainContext, progress: Progress | None) -> tuple[BaseModel, IdentityDataset]:
    if progress is not None:
        progress.phase("loading the base model")
    precision = choose_precision(config.train.precision, context.device)
    parts = {*config.adapter.parts(), *config.train.objective.parts()}
    parts |= {*(("text", "vae") if config.train.validate_every else ())}
    base = load_base(
        config.base.path,
        tuple(sorted(parts)),
        vision_path=config.base.vision_path,
        family=config.base.family,
        device=context.device,
        dtype=precision.dtype,
    )
    dataset = IdentityDataset(
        config.dataset, samples_config(config.train), base_fingerprint=base.fingerprint, stored=_stored(config)
    )
    return base, dataset


def _loader(config: RunConfig, context: TrainContext, base: BaseModel, dataset: IdentityDataset) -> Loader:
    on_gpu = context.device.type == "cuda"
    return Loader(
        dataset,
        config.train.micro_batch(context.workers),
        seed=config.seed,
        rank=context.rank,
        world_size=context.workers,
        update=config.train.batch_size,
        prefetch=PREFETCH if on_gpu else 0,
        processes=loading_processes(config.workers.loaders, context),
        pinned=on_gpu,
        draw=config.train.objective.drawing(noise_schedule(base.scheduler_config)),
    )


def loading_processes(wanted: int | None, context: TrainContext) -> int:
    """How many processes of this worker read and decode; 0: a thread beside a GPU, and on a CPU the training itself.

    On a CPU whoever loads ahead takes cores from the training, which waits for its slowest thread.
    """
    if wanted is not None:
        return wanted
    if context.device.type == "cpu":
        return 0
    return max(0, min(_MOST_LOADERS, available_cpus() // context.local_workers - 1))


def _stored(config: RunConfig) -> Stored:
    """The optional features that fit this run; the dataset may or may not have them."""
    repeat, train_layers = config.adapter.stored(config.train.max_references)
    faces = config.adapter.sees_faces
    if train_layers is None:
        return Stored(repeat=repeat, faces=faces)
    sizes = base_sizes(config.base)
    # An adapter to start from brings a tower of its own, which may differ from the base's in every layer.
    frozen = 0 if config.init is not None else sizes.tower_layers - train_layers
    # Without frozen layers the embeddings are trained as well.
    tower = (sizes.vision_fingerprint, frozen) if frozen > 0 else None
    return Stored(repeat=repeat, tower=tower, faces=faces)


def _validation(
    config: RunConfig,
    context: TrainContext,
    base: BaseModel,
    photomaker: TrainedAdapter,
    dataset: IdentityDataset,
    trainer: Trainer,
) -> Callable[[int], Path | None] | None:
    if config.train.validate_every is None:
        return None
    from pm.train.callbacks.validation import Validation

    precision = choose_precision(config.train.precision, context.device)
    validation = Validation(config.validation, context, base, photomaker, dataset, precision)

    def validate(step: int) -> Path | None:
        average = trainer.ema.gather(everywhere=True) if trainer.ema is not None else None
        # As it is written: sampling would have the blocks compiled again, for other sizes and without gradients.
        with weights_replaced(trainer.engine, average), as_written(photomaker.unet):
            return validation(step)

    return validate


def _callbacks(
    config: RunConfig, context: TrainContext, settings: Mapping[str, Any], progress: Progress | None
) -> list[Callback]:
    if context.rank != 0 or progress is None:
        return []
    found: list[Callback] = [MetricsFile(context.run_dir), progress]
    if config.profile:
        found.append(Profile(context.run_dir))
    shown = label(config, context.run_dir)
    group = config.name if shown != config.name else None
    run = RunInfo(shown, "train", settings, group)
    found.append(Tracked(config.tracker, context.run_dir, run, progress.note))
    return found
