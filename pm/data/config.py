"""Settings of preprocessing and of drawing training samples. Values live in `conf/`."""

from dataclasses import dataclass
from typing import Literal

from pm.errors import ConfigError
from pm.model.config import BaseConfig


@dataclass(frozen=True)
class SourceConfig:
    """The raw photos, `root/<identity>/<photo>`. With `identities`, toon photos are drawn if there are none."""

    name: str
    root: str | None
    min_side: int  # pixels, shorter side
    licence: str | None  # noted in dataset.json
    provenance: str | None
    identities: int | None
    photos_per_identity: int | None
    seed: int | None
    split: Literal["train", "eval"] | None
    defects: dict[str, float] | None  # share of the drawn photos with each kind of defect

    def __post_init__(self) -> None:
        if self.root is None:
            raise ConfigError("dataset.root is not set; give the folder with one folder per person (dataset.root=...)")
        _at_least("dataset.min_side", self.min_side, 1)
        if self.identities is not None and None in (self.photos_per_identity, self.seed, self.split):
            raise ConfigError(
                "dataset.identities also needs dataset.photos_per_identity, dataset.seed and dataset.split"
            )


@dataclass(frozen=True)
class FaceConfig:
    """Where faces come from."""

    name: Literal["sidecar", "dlib"]
    min_size: int  # pixels, shorter side of the box
    upsample: int | None  # dlib: how often to double the photo before looking; 1 finds faces from about 40 pixels
    max_side: int | None  # dlib: larger photos are scaled down for detection

    def __post_init__(self) -> None:
        if self.name == "dlib":
            if self.upsample is None or self.max_side is None:
                raise ConfigError(
                    "face=dlib needs face.upsample and face.max_side; leave them as in conf/face/dlib.yaml"
                )
            _at_least("face.upsample", self.upsample, 0)
            _at_least("face.max_side", self.max_side, 64)


@dataclass(frozen=True)
class VerifyConfig:
    """Do the photos of a folder show one person? (paper section 3.3)"""

    rule: Literal["none", "similarity"]
    threshold: float | None  # standard deviations
    spread: Literal["group", "robust"] | None  # how the standard deviation is estimated
    min_spread: dict[str, float] | None  # robust: its lower bound by embedder, in distance of unit embeddings

    def __post_init__(self) -> None:
        if self.rule == "similarity" and None in (self.threshold, self.spread, self.min_spread):
            raise ConfigError("verify=similarity needs verify.threshold, verify.spread and verify.min_spread")


@dataclass(frozen=True)
class CropConfig:
    """The square around the face."""

    face_share: float  # the face fills at least this share of the crop's area
    working_side: int  # pixels; masks are made at this size where the photo has it

    def __post_init__(self) -> None:
        if not 0 < self.face_share < 1:
            raise ConfigError(f"crop.face_share={self.face_share} must lie between 0 and 1 (the paper: 0.1)")
        _at_least("crop.working_side", self.working_side, 8)


@dataclass(frozen=True)
class MaskConfig:
    """Where the person is."""

    name: Literal["sidecar", "grabcut"]
    min_overlap: float  # share of the face box that the mask must cover
    iterations: int | None  # grabcut
    side: int | None  # grabcut: pixels it works at; its time grows with the area

    def __post_init__(self) -> None:
        if not 0 < self.min_overlap <= 1:
            raise ConfigError(f"mask.min_overlap={self.min_overlap} must lie above 0 and not above 1")
        if self.name == "grabcut":
            if self.iterations is None or self.side is None:
                raise ConfigError("mask=grabcut needs mask.iterations and mask.side; see conf/mask/grabcut.yaml")
            _at_least("mask.iterations", self.iterations, 1)
            _at_least("mask.side", self.side, 16)


@dataclass(frozen=True)
class CaptionConfig:
    """What the photo shows, in words."""

    name: Literal["sidecar", "template"]
    templates: tuple[str, ...]  # with {word}

    def __post_init__(self) -> None:
        if self.name == "template" and not self.templates:
            raise ConfigError("caption=template needs caption.templates, for example ['a photo of a {word}']")
        for template in self.templates:
            if "{word}" not in template:
                raise ConfigError(
                    f"caption template {template!r} lacks {{word}}; write for example 'a photo of a {{word}}'"
                )


@dataclass(frozen=True)
class WorkersConfig:
    """How the graph spreads over the cluster; has no influence on the result."""

    faces: int | None  # actors that detect and embed faces; None: one for every four CPUs
    precompute: int | None  # actors that hold the base model; None: one for each GPU, or for every four CPUs
    actor_cpus: float
    task_cpus: float
    gpus: float | None  # for each precompute actor; None: one where the cluster has any
    batch_size: int  # images in one call of the VAE and the text encoders
    shard_photos: int  # about so many photos at most in one output file, which is also the unit of resuming

    def __post_init__(self) -> None:
        for name in ("faces", "precompute", "batch_size", "shard_photos"):
            if getattr(self, name) is not None:
                _at_least(f"workers.{name}", getattr(self, name), 1)
        for name in ("actor_cpus", "task_cpus"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"workers.{name}={getattr(self, name)} must be above 0")


@dataclass(frozen=True)
class PreprocessConfig:
    """Everything `pm.data.build.build` needs."""

    dataset: SourceConfig
    base: BaseConfig
    output: str
    overwrite: bool
    face: FaceConfig
    embedder: Literal["none", "dlib", "probe"]
    probe: str | None  # folder of the toon attribute probe, for embedder=probe
    verify: VerifyConfig
    min_photos: int  # an identity with fewer is dropped whole
    crop: CropConfig
    mask: MaskConfig
    caption: CaptionConfig
    dtype: Literal["float32", "bfloat16", "float16"]  # of the VAE and the text encoders
    workers: WorkersConfig

    def __post_init__(self) -> None:
        _at_least("min_photos", self.min_photos, 1)
        if self.verify.rule == "similarity" and self.embedder == "none":
            raise ConfigError(
                "verify=similarity compares faces; choose embedder=dlib or embedder=probe, or verify=none"
            )
        if self.verify.rule == "similarity" and self.embedder not in self.verify.min_spread:
            raise ConfigError(
                f"verify.min_spread has no value for embedder={self.embedder}; add verify.min_spread.{self.embedder}=0"
            )
        if self.embedder == "probe" and not self.probe:
            raise ConfigError("embedder=probe needs probe=<file of the toon probe>")


@dataclass(frozen=True)
class SamplesConfig:
    """How training samples are drawn from a dataset (paper section 4.1)."""

    min_references: int
    max_references: int
    null_text: float  # probability of the null text
    masked_loss: float  # probability of the loss inside the person mask

    def __post_init__(self) -> None:
        _at_least("min_references", self.min_references, 1)
        if self.max_references < self.min_references:
            raise ConfigError(f"max_references={self.max_references} is below min_references={self.min_references}")
        for name in ("null_text", "masked_loss"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)} is a probability, between 0 and 1")


def _at_least(name: str, value: float, minimum: float) -> None:
    if value < minimum:
        raise ConfigError(f"{name}={value} must be at least {minimum}")
