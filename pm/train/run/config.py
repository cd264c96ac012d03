"""Settings of a training run; the defaults live in `conf/train.yaml`."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from pm.errors import ConfigError
from pm.model.config import BaseConfig
from pm.model.kinds.base import AdapterChoice
from pm.sample.config import SamplerConfig
from pm.track.base import TrackerChoice
from pm.train.config import TrainConfig
from pm.train.engine.choice import EngineChoice


@dataclass(frozen=True)
class WorkersConfig:
    """Where the run computes."""

    num: Annotated[int | None, Ge(1)]  # None: one per GPU, or two on a machine without GPUs
    min: Annotated[int | None, Ge(1)]  # fewer to continue with when the cluster shrinks; None: always `num`
    grow_seconds: Annotated[int, Ge(1)]  # how often a run with fewer than `num` looks for room for more
    use_gpu: bool | str  # "auto": when Ray has any
    cpus_per_worker: Annotated[int | None, Ge(1)]  # None: an even share of the CPUs without GPUs, one otherwise
    loaders: Annotated[int | None, Ge(0)]  # processes of each worker that read and decode; None: by device
    max_failures: Annotated[int, Ge(-1)]  # lost workers the run survives, from the last checkpoint; -1: any number
    wait_seconds: Annotated[int, Ge(0)]  # for a cluster to bring what is needed; a Ray of this machine alone will not
    logs: bool  # show what the workers print; errors reach the terminal in any case

    def __post_init__(self) -> None:
        if self.num is not None and self.min is not None and self.min > self.num:
            raise ConfigError(f"workers.min={self.min} is above workers.num={self.num}; lower it")
        if self.use_gpu not in (True, False, "auto"):
            raise ConfigError(f"workers.use_gpu={self.use_gpu!r} is not one of auto, true, false")


@dataclass(frozen=True)
class ValidationConfig:
    """The pictures made every `train.validate_every` steps."""

    identities: Annotated[int, Ge(1)]  # people of the dataset, evenly spaced
    references: Annotated[int, Ge(1)]  # ID images of each
    prompts: tuple[str, ...]  # {class_word} and {trigger} stand for the person's class word and the trigger word
    seed: int
    sampler: SamplerConfig

    def __post_init__(self) -> None:
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
    adapter: AdapterChoice
    engine: EngineChoice
    train: TrainConfig
    validation: ValidationConfig
    workers: WorkersConfig
    tracker: TrackerChoice

    def __post_init__(self) -> None:
        if not self.name or self.name.startswith((".", "/")) or ".." in self.name.split("/"):
            raise ConfigError(f"name={self.name!r} must be a plain name; it becomes the folder runs/<name>")
        if self.dataset in ("", "???"):
            raise ConfigError("data is not set; give the folder that pipelines/preprocess.py wrote: data=<folder>")
        self.train.objective.check(self.adapter, self.train.loss_weights)
        if self.train.max_references > self.adapter.max_id_images:
            raise ConfigError(
                f"train.max_references={self.train.max_references} exceeds "
                f"adapter.max_id_images={self.adapter.max_id_images}; lower the first or raise the second"
            )
