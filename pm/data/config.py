"""Settings of preprocessing and of drawing training samples. Values live in `conf/`."""

from dataclasses import dataclass
from typing import Literal

from pm.data.source_config import DownloadConfig, SourceConfig, VerifyConfig
from pm.data.stages_config import CaptionConfig, FeaturesConfig, MarkingConfig, at_least
from pm.errors import ConfigError
from pm.model.config import BaseConfig
from pm.photo.crop import CropConfig
from pm.photo.embedders.embed import EmbedderChoice
from pm.photo.faces.detect import FaceChoice
from pm.photo.masks.select import MaskChoice

__all__ = [
    "BrowseConfig",
    "CaptionConfig",
    "DownloadConfig",
    "FeaturesConfig",
    "MarkingConfig",
    "PreprocessConfig",
    "SamplesConfig",
    "SourceConfig",
    "VerifyConfig",
    "WorkersConfig",
]


@dataclass(frozen=True)
class WorkersConfig:
    """How the graph spreads over the cluster; has no influence on the result."""

    download: int  # actors that fetch photos; they share the connections to each host
    faces: int | None  # actors that detect and embed faces; None: one for every four CPUs
    masks: int | None  # actors with a mask model, where the choice needs one; None: as for precompute
    captions: int | None  # actors with a caption model, likewise
    precompute: int | None  # actors that hold the base model; None: one for each GPU, or for every four CPUs
    actor_cpus: float
    task_cpus: float
    gpus: float | None  # for each actor with a model; None: each GPU is shared by the stages that can use one
    batch_size: int | None  # images in one call of a model; None: as many as the GPU has memory for, 16 without one
    shard_photos: int  # about so many photos at most in one output file, which is also the unit of resuming

    def __post_init__(self) -> None:
        for name in ("download", "faces", "masks", "captions", "precompute", "batch_size", "shard_photos"):
            if getattr(self, name) is not None:
                at_least(f"workers.{name}", getattr(self, name), 1)
        for name in ("actor_cpus", "task_cpus"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"workers.{name}={getattr(self, name)} must be above 0")


@dataclass(frozen=True)
class PreprocessConfig:
    """Everything `pm.data.run.graph.build` needs."""

    dataset: SourceConfig
    base: BaseConfig
    output: str
    overwrite: bool
    face: FaceChoice
    embedder: EmbedderChoice
    verify: VerifyConfig
    min_photos: int  # an identity with fewer is dropped whole
    crop: CropConfig
    mask: MaskChoice
    caption: CaptionConfig
    marking: MarkingConfig
    features: FeaturesConfig
    dtype: Literal["float32", "bfloat16", "float16"]  # of the VAE and the text encoders
    workers: WorkersConfig

    def __post_init__(self) -> None:
        at_least("min_photos", self.min_photos, 1)
        name = self.embedder.name
        if self.verify.rule == "similarity" and name == "none":
            raise ConfigError(
                "verify=similarity compares faces; choose embedder=dlib, insightface or probe, or verify=none"
            )
        if self.verify.rule == "similarity" and name not in self.verify.min_spread:
            raise ConfigError(f"verify.min_spread has no value for embedder={name}; add verify.min_spread.{name}=0")
        self.embedder.check(self.face)


@dataclass(frozen=True)
class BrowseConfig:
    """The page of `pipelines/browse.py`."""

    dataset: str | None  # folder
    output: str | None  # HTML file; None: in that folder
    photos: str | None  # root of the raw photos; None: where preprocess read them
    people: tuple[str, ...]  # to show; empty: `identities` evenly spaced ones
    identities: int
    photos_per_identity: int
    rejects: int  # shown for each reason
    side: int  # pixels of each picture

    def __post_init__(self) -> None:
        if self.dataset is None:
            raise ConfigError("dataset is not set; give the folder that preprocess wrote (dataset=...)")
        for name in ("identities", "photos_per_identity", "rejects"):
            at_least(name, getattr(self, name), 1)
        at_least("side", self.side, 16)


@dataclass(frozen=True)
class SamplesConfig:
    """How training samples are drawn from a dataset (paper section 4.1)."""

    min_references: int
    max_references: int
    null_text: float  # probability of the null text
    masked_loss: float  # probability of the loss inside the person mask

    def __post_init__(self) -> None:
        at_least("min_references", self.min_references, 1)
        if self.max_references < self.min_references:
            raise ConfigError(f"max_references={self.max_references} is below min_references={self.min_references}")
        for name in ("null_text", "masked_loss"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)} is a probability, between 0 and 1")
