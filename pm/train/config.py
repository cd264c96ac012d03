"""Settings of a training run; the defaults live in `conf/train.yaml`."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from pm.errors import ConfigError
from pm.model.config import AdapterConfig, BaseConfig
from pm.sample.config import SamplerConfig
from pm.tracking import WandbConfig

ENGINES = {"ddp": 0, "zero1": 1, "zero2": 2, "zero3": 3, "zero3_offload": 3}  # name -> ZeRO stage


@dataclass(frozen=True)
class EngineConfig:
    """How gradients and optimizer states are shared between the workers (`conf/engine/*.yaml`)."""

    name: Literal["ddp", "zero1", "zero2", "zero3", "zero3_offload"]
    deepspeed: dict[str, Any]  # merged over the DeepSpeed config that is derived from the other settings

    @property
    def stage(self) -> int:
        """ZeRO stage; 0 is plain data parallelism without DeepSpeed."""
        return ENGINES[self.name]

    def plain(self, workers: int) -> bool:
        """Whether so many workers train without DeepSpeed: one alone has nothing to split, it may only offload."""
        return self.stage == 0 or (workers == 1 and not self.deepspeed)


@dataclass(frozen=True)
class TrainConfig:
    """What is optimised, for how long, and how often it is looked at."""

    steps: int  # optimizer updates
    batch_size: int  # global: samples of one optimizer update, over all workers
    micro_batch_size: int | None  # samples of one forward pass of one worker; None: batch_size / workers
    lr_lora: float
    lr_id_encoder: float
    betas: tuple[float, ...]
    weight_decay: float
    warmup_steps: int  # linear, then constant
    grad_clip: float | None  # L2 norm over all trainable parameters
    precision: Literal["auto", "fp32", "bf16"]  # auto: bf16 where the GPU has it
    null_text: float  # probability of training a sample without any text or identity
    masked_loss: float  # probability of a loss inside the person mask only
    min_references: int
    max_references: int
    ema_decay: float | None  # the adapter holds the moving average of the weights instead of the last ones
    loss_weights: Literal["uniform", "min_snr", "debiased"]  # over the noise levels
    min_snr_gamma: float  # of min_snr
    log_every: int
    validate_every: int | None  # pictures of a few people of the dataset
    checkpoint_every: int | None  # None: only at the end
    num_to_keep: int | None  # newest checkpoints, or best ones beside the newest; None: all
    best_metric: str | None  # name in metrics.jsonl: keep the checkpoints that are best by it
    best_mode: Literal["min", "max"]

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "min_references"):
            _at_least(name, getattr(self, name), 1)
        for name in ("micro_batch_size", "validate_every", "checkpoint_every", "num_to_keep"):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), 1)
        for name in ("lr_lora", "lr_id_encoder", "weight_decay", "warmup_steps"):
            _at_least(name, getattr(self, name), 0)
        for name in ("null_text", "masked_loss"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"train.{name}={getattr(self, name)} is a probability; use 0 to 1")
        if self.max_references < self.min_references:
            raise ConfigError(
                f"train.max_references={self.max_references} is below train.min_references={self.min_references}"
            )
        if len(self.betas) != 2 or not all(0 <= b < 1 for b in self.betas):
            raise ConfigError(f"train.betas={list(self.betas)} must be two numbers in [0, 1)")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ConfigError(f"train.ema_decay={self.ema_decay} must be between 0 and 1, or null for no average")
        if self.min_snr_gamma <= 0:
            raise ConfigError(f"train.min_snr_gamma={self.min_snr_gamma} must be above 0")
        if self.grad_clip is not None and self.grad_clip <= 0:
            raise ConfigError(f"train.grad_clip={self.grad_clip} must be above 0, or null to switch it off")

    def check_split(self, workers: int) -> None:
        """Fail unless the global batch can be split evenly.

        Raises:
            ConfigError: it cannot (names a batch size that can).
        """
        micro = self.micro_batch_size or max(1, self.batch_size // workers)
        if self.batch_size % (workers * micro):
            way_out = f"use train.batch_size={workers * micro * max(1, round(self.batch_size / (workers * micro)))}"
            raise ConfigError(
                f"train.batch_size={self.batch_size} is not divisible by {workers} workers x "
                f"{micro} samples (train.micro_batch_size); {way_out}"
            )

    def micro_batch(self, workers: int) -> int:
        """Samples of one forward pass of one worker, at most."""
        return self.micro_batch_size or math.ceil(self.batch_size / workers)

    def accumulation(self, workers: int) -> int:
        """Forward passes of one worker for one optimizer update."""
        return math.ceil(self.batch_size / (workers * self.micro_batch(workers)))

    def shares(self, rank: int, workers: int) -> list[tuple[int, float]]:
        """This worker's samples in each micro-batch of an update, and the factor on their mean loss.

        Averaged over workers and micro-batches, mean x factor is the mean over the global batch; the factor is 1
        wherever the batch divides evenly.
        """
        window, passes = workers * self.micro_batch(workers), self.accumulation(workers)
        counts = [
            len(range(start + rank, min(start + window, self.batch_size), workers))
            for start in range(0, self.batch_size, window)
        ]
        return [(count, count * workers * passes / self.batch_size) for count in counts]


@dataclass(frozen=True)
class WorkersConfig:
    """Where the run computes."""

    num: int | None  # None: one per GPU, or two on a machine without GPUs
    min: int | None  # fewer to go on with when the cluster shrinks; None: always `num`
    grow_seconds: int  # how often a run with fewer than `num` looks for room for more
    use_gpu: bool | str  # "auto": when Ray has any
    cpus_per_worker: int | None  # None: an even share of the CPUs without GPUs, one otherwise
    max_failures: int  # lost workers the run survives by itself, from the last checkpoint; -1: any number
    wait_seconds: int  # for a cluster to bring what the run needs; a Ray of this machine alone is not waited for
    logs: bool  # show what the workers print; errors reach the terminal in any case

    def __post_init__(self) -> None:
        if self.num is not None:
            _at_least("num", self.num, 1, room="workers")
        if self.min is not None:
            _at_least("min", self.min, 1, room="workers")
            if self.num is not None and self.min > self.num:
                raise ConfigError(f"workers.min={self.min} is above workers.num={self.num}; lower it")
        _at_least("max_failures", self.max_failures, -1, room="workers")
        _at_least("grow_seconds", self.grow_seconds, 1, room="workers")
        _at_least("wait_seconds", self.wait_seconds, 0, room="workers")
        if self.use_gpu not in (True, False, "auto"):
            raise ConfigError(f"workers.use_gpu={self.use_gpu!r} is not one of auto, true, false")


@dataclass(frozen=True)
class ValidationConfig:
    """The pictures made every `train.validate_every` steps."""

    identities: int  # people of the dataset, evenly spaced
    references: int  # ID images of each
    prompts: tuple[str, ...]  # {class_word} and {trigger} stand for the person's class word and the trigger word
    seed: int
    sampler: SamplerConfig

    def __post_init__(self) -> None:
        _at_least("identities", self.identities, 1, room="validation")
        _at_least("references", self.references, 1, room="validation")
        for prompt in self.prompts:
            if "{class_word} {trigger}" not in prompt:
                raise ConfigError(f"validation prompt {prompt!r} lacks '{{class_word}} {{trigger}}'; write them in")


@dataclass(frozen=True)
class RunConfig:
    """Everything that defines one training run."""

    name: str
    dataset: str
    init: str | None  # adapter whose weights training starts from, ours or published; None: new ones
    seed: int
    profile: bool  # write a torch profiler trace of a few steps
    base: BaseConfig
    adapter: AdapterConfig
    engine: EngineConfig
    train: TrainConfig
    validation: ValidationConfig
    workers: WorkersConfig
    wandb: WandbConfig

    def __post_init__(self) -> None:
        if not self.name or self.name.startswith((".", "/")) or ".." in self.name.split("/"):
            raise ConfigError(f"name={self.name!r} must be a plain name; it becomes the folder runs/<name>")
        if self.dataset in ("", "???"):
            raise ConfigError("data is not set; give the folder that pipelines/preprocess.py wrote: data=<folder>")
        if self.train.max_references > self.adapter.max_id_images:
            raise ConfigError(
                f"train.max_references={self.train.max_references} exceeds "
                f"adapter.max_id_images={self.adapter.max_id_images}; lower the one or raise the other"
            )


@dataclass(frozen=True)
class ExportConfig:
    """What to export (`conf/export.yaml`)."""

    checkpoint: str  # a checkpoint, a run's folder, or an adapter file
    pick: Literal["newest", "best"]  # of a run's checkpoints; best by its train.best_metric
    format: Literal["native", "published", "diffusers"]
    output: str | None  # None: beside the checkpoint's run, or the adapter file


def _at_least(name: str, value: float, least: float, room: str = "train") -> None:
    if value < least:
        raise ConfigError(f"{room}.{name}={value} must be at least {least}")
