"""The project's own preprocessing and training in this process: no Ray, no Hydra, no network."""

import atexit
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pm.config import from_mapping

ROOT = Path(__file__).resolve().parents[2]


def read(name: str) -> dict[str, Any]:
    """`conf/<name>.yaml` without what only Hydra understands."""
    values = yaml.safe_load((ROOT / f"conf/{name}.yaml").read_text())
    return {key: value for key, value in values.items() if key not in ("defaults", "hydra")}


def preprocess_settings(photos: Path, base: Path, output: Path, people: int, each: int, dtype: str) -> dict[str, Any]:
    """The values of `conf/preprocess.yaml` with `dataset=toon`; one picture in a call of a model.

    Args:
        photos: drawn first if it does not exist.
        base: with its vision tower in `image_encoder/`.
        output: the dataset's folder.
        people: how many are drawn.
        each: photos of each.
        dtype: of the VAE and the text encoders.
    """
    values = {key: value for key, value in read("preprocess").items() if key != "forget"}
    values["dataset"] = read("dataset/toon") | {
        "root": str(photos),
        "identities": people,
        "photos_per_identity": each,
    }
    values["base"] = read("base/sdxl") | {"path": str(base), "vision_path": str(base / "image_encoder")}
    for group in ("face", "mask", "caption"):
        values[group] = read(f"{group}/sidecar")
    values |= {"embedder": read("embedder/none"), "verify": read("verify/none"), "crop": read("crop/paper")}
    values["crop"]["max_upscale"] = 1000.0  # drawn photos are small, and what they show does not matter here
    values |= {"marking": read("marking/simple"), "output": str(output), "dtype": dtype}
    values["workers"] = values["workers"] | {"batch_size": 1}
    return values


def preprocess(settings: Mapping[str, Any], device: str = "cpu") -> int:
    """The steps of the Ray graph, one after the other in this process; how many photos were kept."""
    from pm.data.config import PreprocessConfig
    from pm.data.dataset.writer import finish
    from pm.data.records import read_meta, to_table
    from pm.data.run.build import absolute
    from pm.data.run.shards import describe, plan_shards, settings_of, shard_limit
    from pm.data.run.steps import stages_of, steps_of, work_of
    from pm.data.run.worker import StepRunner
    from pm.data.source.listing import Listing
    from pm.data.stages.stage import Place
    from pm.model.base_sizes import base_sizes

    config = absolute(from_mapping(PreprocessConfig, settings))
    config.dataset.prepare()
    sizes, stages = base_sizes(config.base), stages_of(config)
    order = [stage.name for stage in stages]
    place = Place(sizes, device)

    def runner(step: Any) -> StepRunner:
        work = lambda: work_of(step.stages, config, place)  # noqa: E731
        return StepRunner(step, order, work, config.output, "here", lambda *_: None, 1)

    with Listing(config.dataset) as listing:
        shards = list(plan_shards(listing.photos(), shard_limit(listing.found, config.workers.shard_photos)))
        tables = [to_table(shard) for shard in shards]
        for step in steps_of(stages):
            work = runner(step)
            tables = [work(table) for table in tables]
            del work  # one model in memory at a time
        finish(config.output, order, describe(config, sizes, settings_of(config, sizes, listing.digest)))
    return int(read_meta(config.output)["counts"]["kept"])


def train_settings(dataset: Path, base: Path, engine: str, adapter: str = "photomaker", **train: Any) -> dict[str, Any]:
    """The values of `conf/train.yaml` for a base, without pictures and tracker.

    Args:
        dataset: a preprocessed one.
        base: with its vision tower in `image_encoder/`.
        engine: a file of `conf/engine/`; one worker too really runs DeepSpeed with ZeRO.
        adapter: a file of `conf/model/`.
        train: keys of `train` that win.
    """
    from pm.train.run.config import RunConfig

    values, fields = read("train"), {field.name for field in dataclasses.fields(RunConfig)}
    result = {key: value for key, value in values.items() if key in fields}
    result["train"] |= {"objective": read("objective/diffusion"), "loss_weights": read("loss_weights/uniform")}
    result["train"] |= {"validate_every": None, "checkpoint_every": None, "log_every": 1, "warmup_steps": 0} | train
    result["validation"]["sampler"] = read("sampler/sdxl")
    result["adapter"] = read(f"model/{adapter}") | {"compose": read("compose/stacked"), "merge": "insert"}
    chosen = read(f"engine/{engine}")
    if "deepspeed" in chosen and not chosen["deepspeed"]:
        chosen["deepspeed"] = {"steps_per_print": None}  # its own default; ZeRO of one worker would run without
    place = {"path": str(base), "vision_path": str(base / "image_encoder")}
    result |= {"base": read("base/sdxl") | place, "engine": chosen, "tracker": read("tracker/none")}
    return result | {"name": f"train-{engine}", "dataset": str(dataset)}


def train(settings: Mapping[str, Any], run_dir: Path, device: str = "cpu", callbacks: Sequence[Any] = ()) -> dict:
    """`run_worker` as the only worker; the last metrics."""
    from pm.train.callbacks.metrics import MetricsFile
    from pm.train.run.config import RunConfig
    from pm.train.run.context import LocalContext
    from pm.train.run.workers import run_worker

    run_dir.mkdir(parents=True, exist_ok=True)
    config = from_mapping(RunConfig, settings)
    if settings["engine"]["name"] == "zero":
        join_group(device)
    context = LocalContext(run_dir, config.train.num_to_keep, device)
    return run_worker(config, context, {}, [MetricsFile(run_dir), *callbacks])


def join_group(device: str) -> None:
    """A process group of this process alone, as DeepSpeed needs one: NCCL on a GPU, else gloo. Once; it keeps it."""
    import torch.distributed as dist

    if dist.is_initialized():
        return
    cuda = device.startswith("cuda")
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if cuda else "cpu")
    os.environ.setdefault("LOCAL_RANK", "0")
    dist.init_process_group("nccl" if cuda else "gloo", store=dist.HashStore(), rank=0, world_size=1)
    atexit.register(dist.destroy_process_group)


def last_loss(run_dir: Path) -> list[tuple[int, float]]:
    """Step and loss of every line of a run's metrics."""
    from pm.train.callbacks.metrics import read_metrics

    return [(line["step"], line["loss"]) for line in read_metrics(run_dir / "metrics.jsonl")]
