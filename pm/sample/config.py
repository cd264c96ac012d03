"""Settings of sampling (`conf/sampler/*.yaml`)."""

from dataclasses import dataclass
from typing import Literal

from pm.errors import ConfigError
from pm.model.config import BaseConfig
from pm.photo.faces.detect import FaceChoice
from pm.photo.masks.select import MaskChoice
from pm.photo.stored import Preparation


@dataclass(frozen=True)
class SamplerConfig:
    """How images are drawn, unless a request says otherwise."""

    schedule: Literal["ddim", "euler"]
    steps: int
    guidance: float  # classifier-free guidance; 1: off
    merge_fraction: float  # share of the steps that see the text only (delayed subject conditioning)
    eta: float  # noise added by DDIM: 0 none, 1 as much as DDPM
    negative_prompt: str
    batch_size: int  # rows sampled together

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"sampler.steps={self.steps} must be at least 1")
        if self.batch_size < 1:
            raise ConfigError(f"sampler.batch_size={self.batch_size} must be at least 1")
        if self.guidance < 0:
            raise ConfigError(f"sampler.guidance={self.guidance} must be 0 or more; 1 switches it off")
        if not 0 <= self.merge_fraction <= 1:
            raise ConfigError(f"sampler.merge_fraction={self.merge_fraction} is a share of the steps; use 0 to 1")
        if not 0 <= self.eta <= 1:
            raise ConfigError(f"sampler.eta={self.eta} must be between 0 and 1")

    @property
    def merge_step(self) -> int:
        """First step that sees the identity."""
        return round(self.merge_fraction * self.steps)


@dataclass(frozen=True)
class GenerateConfig:
    """One call of `pipelines/generate.py`."""

    base: BaseConfig
    sampler: SamplerConfig
    check_base: bool  # refuse an adapter that was trained on another base
    adapter: str | None  # file; None samples the base alone, with a plain prompt
    prompt: str | None
    id_images: tuple[str, ...]  # files, folders or glob patterns
    weights: tuple[float, ...] | None  # per image
    images: int
    seed: int  # of the first image; the next have seed + 1, ...
    width: int | None  # pixels; None: what the base was trained for
    height: int | None
    face: FaceChoice | None  # None: sidecars where there are any, else as `preprocess` says
    mask: MaskChoice | None
    preprocess: Literal["auto", "none", "photo", "drawing"]  # of photos that face and mask leave alone
    photo: Preparation  # of photographs where the adapter's metadata does not say
    pick: Literal["largest", "left", "middle", "right"]  # which of several faces
    references: Literal["lenient", "strict"]  # lenient: those that cannot be used are left out if others remain
    class_words: tuple[str, ...]  # allowed before the trigger, besides the usual ones
    modules: tuple[str, ...]  # with parts of your own that an adapter names
    output: str
    device: str  # cpu, cuda, cuda:1, ..., or auto
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    compile: bool  # torch.compile for the U-Net

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ConfigError("prompt is not set; write for example prompt='a man img wearing a red hoodie'")
        if self.images < 1:
            raise ConfigError(f"images={self.images} must be at least 1")
        if self.adapter is None and self.id_images:
            raise ConfigError("adapter=null samples the base alone; leave out id_images, or give an adapter file")
        if self.adapter is not None and not self.id_images:
            raise ConfigError(
                "id_images is empty; give photos of the person: id_images=[a.png,b.png] or id_images=folder"
            )
