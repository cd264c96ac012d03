"""Settings of sampling (`conf/sampler/*.yaml`)."""

import functools
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

from annotated_types import Ge, Interval

from pm.errors import ConfigError
from pm.model.config import BaseConfig
from pm.model.weighting import Weighting
from pm.photo.embedders.embed import EmbedderChoice
from pm.photo.faces.detect import FaceChoice
from pm.photo.masks.select import MaskChoice
from pm.photo.stored import Preparation
from pm.protect.config import ProtectConfig
from pm.resources import resource
from pm.sample.output_file import Format
from pm.sample.picture_config import ControlFile, PersonFiles, PromptFiles
from pm.sample.schedules.base import ScheduleChoice
from pm.strengths import strengths
from pm.tasks import WorkersConfig


@dataclass(frozen=True)
class SamplerConfig:
    """How images are drawn, unless a request says otherwise."""

    schedule: ScheduleChoice
    steps: Annotated[int, Ge(1)]
    guidance: Annotated[float, Ge(0)]  # classifier-free guidance; 1: off
    merge_fraction: Annotated[float | None, Interval(ge=0, le=1)]  # see `first_merged`; None: usual for the base
    eta: Annotated[float, Interval(ge=0, le=1)]  # noise added by DDIM: 0 none, 1 as much as DDPM; gamma of TCD
    negative_prompt: str
    batch_size: Annotated[int, Ge(1)]  # rows sampled together
    guidance_start: Annotated[float, Interval(ge=0, le=1)]  # share of the steps before guidance, see `guided_steps`
    guidance_end: Annotated[float, Interval(ge=0, le=1)]  # share of the steps after which there is none
    cache_interval: Annotated[int, Ge(1)]  # steps for which deep features are kept, see `pm.model.deep_features`
    loras: tuple[str, ...]  # that these settings are for: a file, folder or Hub id, with its strength behind a colon

    def __post_init__(self) -> None:
        strengths(self.loras)
        if self.guidance_start > self.guidance_end:
            raise ConfigError(
                f"sampler.guidance_start={self.guidance_start} is above sampler.guidance_end={self.guidance_end}; "
                "guidance=1 switches guidance off"
            )

    @property
    def merge_step(self) -> int | None:
        """First step that sees the identity; None: as is usual for the base."""
        return None if self.merge_fraction is None else first_merged(self.merge_fraction, self.steps)

    def on(self, drawn: bool) -> Self:
        """The settings for a base; `drawn`: one that knows drawings only."""
        return self if self.merge_fraction is not None else replace(self, merge_fraction=usual_merge_fraction(drawn))


def first_merged(fraction: float, steps: int) -> int:
    """First of `steps` steps that sees the identity: delayed subject conditioning (paper section 4.1).

    Args:
        fraction: share of the steps before it, which see the text only.
    """
    return round(fraction * steps)


def guided_steps(start: float, end: float, steps: int) -> tuple[int, int]:
    """First step with guidance and the first without it again: the guidance interval (Kynkaanniemi et al. 2024).

    Args:
        start: share of the steps before it.
        end: share of the steps up to its end.
        steps: of the row.
    """
    return round(start * steps), round(end * steps)


@functools.cache
def usual_merge_fraction(drawn: bool = False) -> float:
    """The share where neither a request nor a configuration says one: that of `conf/sampler/`, as on the command line.

    Args:
        drawn: of a base that knows drawings only, which has a sampler of its own there.
    """
    import yaml

    file = resource(f"conf/sampler/{'toon' if drawn else 'sdxl'}.yaml")
    return float(yaml.safe_load(file.read_text(encoding="utf-8"))["merge_fraction"])


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
    people: tuple[PersonFiles, ...]  # several, each with photos and a place, instead of `id_images` and `weights`
    scale: Annotated[float | None, Ge(0)]  # of the image prompt, for adapters that have one (IP-Adapter)
    image: str | None  # picture to change
    mask_image: str | None  # what of it is drawn anew: white, or transparent
    strength: Annotated[float | None, Interval(gt=0, le=1)]  # how much of it is drawn anew
    controls: tuple[ControlFile, ...]  # ControlNets and T2I-Adapters, each with its picture
    image_prompt: PromptFiles | None  # an IP-Adapter's pictures, beside the identity
    loras: tuple[str, ...]  # style LoRAs with their strengths, `style.safetensors:0.8`; see `pm.strengths`
    guidance_rescale: Annotated[float, Interval(ge=0, le=1)]  # share of the rescaled guidance; 0: none
    clip_skip: Annotated[int, Ge(0)]  # last layers of the text encoders that the prompt leaves out beyond the base's
    id_strength: Annotated[float, Interval(ge=0, le=1.5)]  # of all photos at once
    id_start: Annotated[float | None, Interval(ge=0, le=1)]  # share of the steps; None: `sampler.merge_fraction`
    id_end: Annotated[float, Interval(ge=0, le=1)]  # likewise; the text alone is seen again from there on
    prompt_weighting: Weighting
    trigger: Literal["required", "auto"]  # auto: put after the first class word of a prompt that lacks it
    images: Annotated[int, Ge(1)]
    seed: int  # of the first image; the next have seed + 1, ...
    width: int | None  # pixels, rounded to the base's step; None: what the base was trained for
    height: int | None
    aspect: str | None  # instead of both: 3:4, portrait, ...
    face: FaceChoice | None  # None: sidecars where there are any, else as `preprocess` says
    mask: MaskChoice | None
    embedder: EmbedderChoice | None  # of faces, for adapters that take face embeddings; None: that of their training
    preprocess: Literal["auto", "none", "photo", "drawing"]  # of photos that face and mask leave alone
    photo: Preparation  # of photographs where the adapter's metadata does not say
    pick: Literal["largest", "left", "middle", "right"]  # which of several faces
    references: Literal["lenient", "strict"]  # lenient: those that cannot be used are left out if others remain
    class_words: tuple[str, ...]  # besides the usual ones; "any": every word is one
    modules: tuple[str, ...]  # with parts of your own that an adapter names
    output: str
    format: Format  # of the pictures' files
    quality: Annotated[int, Interval(ge=1, le=100)]  # of JPEG and WebP
    png_level: Annotated[int, Interval(ge=0, le=9)]  # of zlib
    x: str | None  # a contact sheet: "setting:value,value"
    y: str | None
    like: str | None  # a picture to make again; `pm.sample.like` reads it
    device: str  # cpu, cuda, cuda:1, ..., or auto
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    compile: Literal["off", "regional", "full"]  # torch.compile for the U-Net, see `pm.model.compiled`
    offload: Literal["none", "model", "sequential"]  # of weights to the CPU's memory, see `pm.model.offload`
    vae_tiling: bool  # decode pictures in tiles
    quantize: Literal["int8", "fp8", "int8_dynamic", "fp8_dynamic"] | None  # of the U-Net's linear layers
    manifest: str | None  # CSV or JSONL with photos, prompt, seeds and output of each row, instead of one prompt
    skip_bad_rows: bool  # of the manifest; False: nothing is made while one is wrong
    workers: WorkersConfig  # for the manifest
    protect: ProtectConfig | None = None  # of the pictures; None: nothing is done

    @property
    def strengths(self) -> dict[str, float]:
        """All LoRAs of these settings, by their places: those that the sampler is for, and one's own."""
        return strengths(self.sampler.loras) | strengths(self.loras)

    def __post_init__(self) -> None:
        strengths(self.loras)
        if self.manifest is not None:
            given = [n for n in ("prompt", "id_images", "weights", "people") if getattr(self, n)]
            if given:
                raise ConfigError(f"manifest={self.manifest} has photos and prompts; leave out {', '.join(given)}")
            if self.x or self.y:
                raise ConfigError(f"manifest={self.manifest} makes pictures, x and y a sheet of one; leave one out")
            return
        if not self.prompt:
            raise ConfigError("prompt is not set; write for example prompt='a man img wearing a red hoodie'")
        if self.people and (self.id_images or self.weights):
            raise ConfigError("id_images and weights are for one person; each of people has photos and weights")
        if self.adapter is None and (self.id_images or self.people):
            shown = "id_images" if self.id_images else "people"
            raise ConfigError(f"adapter=null samples the base alone; leave out {shown}, or give an adapter file")
        if self.adapter is not None and not self.id_images and not self.people:
            raise ConfigError(
                "id_images is empty; give photos of the person: id_images=[a.png,b.png] or id_images=folder"
            )
