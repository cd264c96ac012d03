"""What one optimizer update is made of, and how many there are; the defaults live in `conf/train.yaml`."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

from pm.errors import ConfigError
from pm.train.losses.choice import LossWeights
from pm.train.objectives.base import ObjectiveChoice


@dataclass(frozen=True)
class TrainConfig:
    """What is optimised, for how long, and how often it is looked at."""

    steps: Annotated[int, Ge(1)]  # optimizer updates
    batch_size: Annotated[int, Ge(1)]  # global: samples of one optimizer update, over all workers
    # Samples of one forward pass of one worker; None: batch_size / workers
    micro_batch_size: Annotated[int | None, Ge(1)]
    lr_lora: Annotated[float, Ge(0)]
    lr_id_encoder: Annotated[float, Ge(0)]
    betas: Annotated[tuple[float, ...], Interval(ge=0, lt=1)]
    weight_decay: Annotated[float, Ge(0)]
    warmup_steps: Annotated[int, Ge(0)]  # linear, then constant
    grad_clip: Annotated[float | None, Gt(0)]  # L2 norm over all trainable parameters; None: not clipped
    # auto: bf16 where the GPU has it; tf32: fp32 with a GPU's products in TF32, several times as fast
    precision: Literal["auto", "fp32", "tf32", "bf16"]
    compile: Literal["off", "regional", "full"]  # of the U-Net, see `pm.model.compiled`
    null_text: Annotated[float, Interval(ge=0, le=1)]  # probability of training without any text or identity
    masked_loss: Annotated[float, Interval(ge=0, le=1)]  # probability of a loss inside the person mask only
    min_references: Annotated[int, Ge(1)]
    max_references: Annotated[int, Ge(1)]
    # The adapter holds the moving average of the weights instead of the last ones; None: the last ones
    ema_decay: Annotated[float | None, Interval(gt=0, lt=1)]
    objective: ObjectiveChoice  # what is minimised
    loss_weights: LossWeights  # over the noise levels
    log_every: Annotated[int, Ge(1)]
    validate_every: Annotated[int | None, Ge(1)]  # pictures of a few people of the dataset
    checkpoint_every: Annotated[int | None, Ge(1)]  # None: only at the end
    num_to_keep: Annotated[int | None, Ge(1)]  # newest checkpoints, or best ones beside the newest; None: all
    best_metric: str | None  # name in metrics.jsonl: keep the checkpoints that are best by it
    best_mode: Literal["min", "max"]

    def __post_init__(self) -> None:
        if self.max_references < self.min_references:
            raise ConfigError(
                f"train.max_references={self.max_references} is below train.min_references={self.min_references}"
            )
        if len(self.betas) != 2:
            raise ConfigError(f"train.betas={list(self.betas)} must be two numbers")

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
class ExportConfig:
    """What to export (`conf/export.yaml`)."""

    checkpoint: str  # a checkpoint, a run's folder, or an adapter file
    pick: Literal["newest", "best"]  # of a run's checkpoints; best by its train.best_metric
    format: Literal["native", "published", "diffusers", "comfyui", "hub"]
    output: str | None  # None: beside the checkpoint's run, or the adapter file
    report: str | None  # report.json for the card of format=hub
    license: str | None  # for the same card; the Hub's name
    modules: tuple[str, ...]  # with parts of your own that an adapter names
