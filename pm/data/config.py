"""Settings of preprocessing and of drawing training samples. Values live in `conf/`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from pm.data.captioning.choice import CaptionChoice
from pm.data.captioning.marking.choice import MarkingChoice
from pm.data.source.choice import SourceChoice
from pm.data.verify.choice import VerifyChoice
from pm.errors import ConfigError
from pm.model.config import BaseConfig
from pm.photo.crop import CropConfig
from pm.photo.embedders.embed import EmbedderChoice
from pm.photo.faces.detect import FaceChoice
from pm.photo.masks.select import MaskChoice


@dataclass(frozen=True)
class FeaturesConfig:
    """What is computed once and stored beside the photo."""

    storage: Literal["float16", "bfloat16"]  # of all features on disk
    face_embeddings: bool  # of each photo's face, for kinds of adapters that are trained with it
    # Text features with the class word repeated 1 ... so often, for merge=repeat; 0: none.
    repeat: Annotated[int, Ge(0)]
    # K: outputs of the vision tower's frozen lower layers on so many noise fills; 0: none.
    noise_fills: Annotated[int, Ge(0)]
    train_layers: Annotated[
        int, Ge(0)
    ]  # upper layers of the tower that training will not freeze (adapter.train_layers)


AUTO = "auto"


@dataclass(frozen=True)
class WorkersConfig:
    """How the graph spreads over the cluster; has no influence on the result."""

    download: Annotated[int, Ge(1)]  # actors that fetch photos; they share the connections to each host
    faces: Annotated[int, Ge(1)] | None  # actors that detect and embed faces; None: one for every four CPUs
    masks: Annotated[int, Ge(1)] | None  # actors with a mask model, where the choice needs one; None: as for precompute
    captions: Annotated[int, Ge(1)] | None  # actors with a caption model, likewise
    # Actors that hold the base model; None: one for each GPU, or for every four CPUs.
    precompute: Annotated[int, Ge(1)] | None
    actor_cpus: Annotated[float, Gt(0)]
    task_cpus: Annotated[float, Gt(0)]
    # GPUs for each actor with a model; None: each GPU is shared by the stages that can use one.
    gpus: Annotated[float, Ge(0)] | None
    # Images in one call of a model; None: as many as the GPU has memory for, 16 without one.
    batch_size: Annotated[int, Ge(1)] | None
    shard_photos: Annotated[int, Ge(1)]  # about so many photos at most in one output file, also the unit of resuming


@dataclass(frozen=True)
class PreprocessConfig:
    """Everything `pm.data.run.build.build` needs."""

    dataset: SourceChoice
    base: BaseConfig
    output: str
    overwrite: bool
    face: FaceChoice
    embedder: EmbedderChoice
    verify: VerifyChoice
    min_photos: Annotated[int, Ge(1)]  # an identity with fewer is dropped whole
    consent: Literal["noted", "required"]  # required: photos without a valid one stay out
    purpose: str  # what the photos are wanted for, as consents say it under `for`
    crop: CropConfig
    mask: MaskChoice
    caption: CaptionChoice
    marking: MarkingChoice
    features: FeaturesConfig
    # Of the VAE, the text encoders and the mask and caption models; auto: bfloat16 where they get a GPU, else float32
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    workers: WorkersConfig

    def __post_init__(self) -> None:
        self.verify.require(self.embedder)
        self.embedder.check(self.face)
        if self.features.face_embeddings and self.embedder.name == "none":
            raise ConfigError(
                "features.face_embeddings=true needs what embeds the faces; choose an embedder (insightface, dlib, ...)"
            )


@dataclass(frozen=True)
class BrowseConfig:
    """The page of `pipelines/browse.py`."""

    dataset: str | None  # folder
    output: str | None  # HTML file; None: in that folder
    photos: str | None  # root of the raw photos; None: where preprocess read them
    people: tuple[str, ...]  # to show; empty: `identities` evenly spaced ones
    identities: Annotated[int, Ge(1)]
    photos_per_identity: Annotated[int, Ge(1)]
    rejects: Annotated[int, Ge(1)]  # shown for each reason
    side: Annotated[int, Ge(16)]  # pixels of each picture

    def __post_init__(self) -> None:
        if self.dataset is None:
            raise ConfigError("dataset is not set; give the folder that preprocess wrote (dataset=...)")


@dataclass(frozen=True)
class SamplesConfig:
    """How training samples are drawn from a dataset (paper section 4.1)."""

    min_references: int
    max_references: int
    null_text: float  # probability of the null text
    masked_loss: float  # probability of the loss inside the person mask

    def __post_init__(self) -> None:
        if not 1 <= self.min_references <= self.max_references:
            raise ConfigError(
                f"min_references={self.min_references} must be at least 1, and not above "
                f"max_references={self.max_references}"
            )
        for name in ("null_text", "masked_loss"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)} is a probability, between 0 and 1")
