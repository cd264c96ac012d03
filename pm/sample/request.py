"""One image to make, and what is wrong with it."""

import math
import numbers
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from pm.errors import RequestError
from pm.model.conditioning import TextFeatures
from pm.model.fused import FusedLora
from pm.model.prompt import MOST_STRENGTH
from pm.model.weighting import Weighting
from pm.model.words import LearnedWord
from pm.sample.config import SamplerConfig
from pm.sample.controls import ControlImage
from pm.sample.fine import check_fine
from pm.sample.given import GivenText
from pm.sample.people import Person, check_people, check_photos, everyone, named
from pm.sample.pictures import PromptImages
from pm.sample.schedules.base import ScheduleChoice
from pm.sample.sizes import rounded
from pm.strengths import check_strength, strengths

BASE = "base"  # the adapter name that stands for none: the base alone

TRIGGERS = ("required", "auto")
MOST_TIMES = 2  # a U-Net repeats people, and takes minutes, on sides longer than so many times those it was trained for


@dataclass(frozen=True)
class Request:
    """What one image shall be. The defaults of steps and guidance are the paper's (section 4.1)."""

    prompt: str  # with the trigger word after the class word; plain when there is no adapter
    id_images: Sequence[Image.Image] = ()  # crops around the face; not square: the centred square is taken
    masks: Sequence[Image.Image | None] | None = None  # white = the person; noise replaces the rest
    weights: Sequence[float] | None = None  # per image: from the class word alone (0) through itself (1) beyond
    scale: float | None = None  # of the image prompt, for adapters that have one: 0 is the base; None: 1
    id_strength: float = 1.0  # of all photos at once, 0 to 1.5
    seed: int = 0
    steps: int = 50
    guidance: float = 5.0  # 1: off
    guidance_start: float = 0.0  # share of the steps before guidance; a step without it is one row of the U-Net
    guidance_end: float = 1.0  # share of the steps after which there is none
    cache_interval: int = 1  # steps for which the deep features of one are kept (DeepCache); 1: each makes its own
    schedule: ScheduleChoice | str | None = None  # one of `pm.sample.schedules`; None: the pipeline's
    merge_step: int | None = None  # first step that sees the identity; None: as the pipeline says
    id_start: float | None = None  # the same as a share of the steps
    id_end: float = 1.0  # share of the steps after which the text alone is seen again
    negative_prompt: str | None = None  # None: the base's null text (SDXL: zeros); "" is encoded like any other text
    eta: float = 0.0  # noise that DDIM adds, 0 to 1; gamma of TCD
    width: int | None = None  # pixels, rounded to the base's step; None: what the base was trained for
    height: int | None = None
    adapter: str | None = None  # by name; None: the pipeline's default; "base": the base alone
    # [N, ...], what the pipeline's `embed` made of the photos, instead of `id_images`: it depends on nothing else.
    id_embeds: Tensor | None = field(default=None, compare=False)
    # [N, E], of the faces on `id_images`, for adapters that take them; None: made of these by the adapter's embedder.
    face_embeds: Tensor | None = field(default=None, compare=False)
    # Several people, each with photos of their own, instead of those above: `img`, `img2`, ... in the prompt.
    people: Sequence[Person] = ()
    # Of a person, on the base alone: learned words of the prompt, by name ("<person>"); and what changes the U-Net.
    words: Mapping[str, LearnedWord] = field(default_factory=dict, compare=False)
    lora: FusedLora | None = field(default=None, compare=False)
    loras: Mapping[str, float] = field(
        default_factory=dict
    )  # names of the pipeline's LoRAs, and how strong: 1 is whole
    image: Image.Image | None = field(default=None, compare=False)  # to change, instead of starting from noise
    # White, or transparent, is drawn anew, the rest of `image` stays; None: the transparent parts of `image`, or all.
    mask_image: Image.Image | None = field(default=None, compare=False)
    controls: Sequence[ControlImage] = field(default=(), compare=False)  # pose, depth, edges ...: where things are
    image_prompt: PromptImages | None = field(default=None, compare=False)  # through an IP-Adapter, beside the identity
    strength: float | None = None  # how much of `image` is drawn anew: share of the steps; see `pm.sample.pictures`
    original_size: tuple[int, int] | None = None  # h, w that SDXL is told; None: the image's own
    crop_corner: tuple[int, int] = (0, 0)  # top, left that SDXL is told
    target_size: tuple[int, int] | None = None  # h, w that SDXL is told; None: the image's own
    # What guidance moves away from is told: as the prompt where all are None, else what is usual for those that are.
    negative_original_size: tuple[int, int] | None = None
    negative_crop_corner: tuple[int, int] | None = None
    negative_target_size: tuple[int, int] | None = None
    prompt_2: str | None = None  # for the second text encoder; None: the prompt
    negative_prompt_2: str | None = None
    clip_skip: int = 0  # last layers of the text encoders that the prompt leaves out beyond what the base does
    guidance_rescale: float = 0.0  # share of the rescaled guidance (Lin et al. 2024, section 3.4)
    denoising_end: float | None = None  # share of the noise levels after which the steps end, for a refiner
    timesteps: tuple[float, ...] | None = None  # instead of the schedule's own; as many as `steps`
    sigmas: tuple[float, ...] | None = None  # likewise; one more than `steps`, the last is what remains
    text: GivenText | None = field(default=None, compare=False)  # instead of the prompt
    negative_text: TextFeatures | None = field(default=None, compare=False)  # [1, T, D], instead of negative_prompt
    class_word: str | None = None  # instead of the prompt's own: "girl" for a woman's photos changes her age
    any_class_word: bool = False  # say nothing of a word before the trigger that is in no list
    trigger: Literal["required", "auto"] = "required"  # auto: put it after the first class word of a prompt without it
    prompt_weighting: Weighting = "explicit"  # how `(hat:1.2)`, `(hat)`, `[hat]` and BREAK are read
    noise: Tensor | None = field(default=None, compare=False)  # first latents [C, h, w], unit variance; not the seed's
    generator: torch.Generator | None = field(default=None, compare=False)  # for `eta`, instead of the seed's

    @property
    def references(self) -> int:
        """ID images of all people, encoded or not."""
        return sum(person.references for person in everyone(self))

    def check(self, *, max_id_images: int | None, pixel_step: int, resolution: int) -> None:
        """Check everything that needs no model.

        Args:
            max_id_images: N_max of the adapter; None when there is no adapter.
            pixel_step: width and height are rounded to multiples of this.
            resolution: side that the base was trained for, in pixels.

        Raises:
            RequestError: names the first thing that cannot be served.
        """
        self._check_photos(max_id_images)
        if not 0 <= whole("seed", self.seed) < 2**63:
            raise RequestError(f"seed={self.seed} is out of range; use 0 to 2^63 - 1")
        if whole("steps", self.steps) < 1:
            raise RequestError(f"steps={self.steps} must be at least 1")
        if not (isinstance(self.guidance, numbers.Real) and math.isfinite(self.guidance) and self.guidance >= 0):
            raise RequestError(f"guidance={self.guidance} must be 0 or more; 1 switches it off")
        check_interval(self.guidance_start, self.guidance_end)
        if whole("cache_interval", self.cache_interval) < 1:
            raise RequestError(f"cache_interval={self.cache_interval} must be at least 1, which keeps nothing")
        if self.scale is not None and not (math.isfinite(self.scale) and self.scale >= 0):
            raise RequestError(f"scale={self.scale} must be 0 or more; 0 is the base alone")
        if self.merge_step is not None and not 0 <= whole("merge_step", self.merge_step) <= self.steps:
            raise RequestError(f"merge_step={self.merge_step} is out of range; use 0 to steps={self.steps}")
        if not isinstance(self.loras, Mapping):
            raise RequestError(f"loras={self.loras!r} must be a mapping of names to strengths, such as {{'ink': 0.8}}")
        for name, strength in self.loras.items():
            check_strength(name, strength)
        check_fine(self)
        self._check_identity()
        for name in ("width", "height"):
            value = getattr(self, name)
            if value is not None:
                check_side(name, rounded(whole(name, value), pixel_step), pixel_step, resolution)

    def _check_identity(self) -> None:
        """When and how strongly it is seen, and how the prompt says so."""
        if not isinstance(self.prompt, str):
            raise RequestError(f"prompt={self.prompt!r:.100} must be a text")
        if self.trigger not in TRIGGERS:
            raise RequestError(f"trigger={self.trigger!r} is not one of {', '.join(TRIGGERS)}")
        for name, most in (("id_strength", MOST_STRENGTH), ("id_start", 1), ("id_end", 1)):
            value = getattr(self, name)
            if not (name == "id_start" and value is None) and not (_is_number(value) and 0 <= value <= most):
                raise RequestError(f"{name}={value!r} is out of range; use 0 to {most:g}")
        if self.id_start is not None and self.merge_step is not None:
            raise RequestError("id_start is given beside merge_step; give one of them")
        if self.id_start is not None and self.id_start > self.id_end:
            raise RequestError(f"id_start={self.id_start} is after id_end={self.id_end}; exchange them")

    def _check_photos(self, max_id_images: int | None) -> None:
        check_people(self)
        if max_id_images is not None and (self.words or self.lora is not None):
            raise RequestError("learned words and a LoRA of one's own need the base alone; set adapter='base'")
        for number, person in enumerate(everyone(self), 1):
            with named(number, self):
                check_photos(person, max_id_images)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def whole(name: str, value: Any) -> int:
    """`value` as an int, whoever's integer it is.

    Raises:
        RequestError: it is none.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise RequestError(f"{name}={value!r} must be a whole number") from None


def check_interval(start: Any, end: Any) -> None:
    """Refuse a guidance interval that is none.

    Raises:
        RequestError: not shares of the steps, or the end before the start.
    """
    shares = [isinstance(share, numbers.Real) and 0 <= float(share) <= 1 for share in (start, end)]
    if not all(shares) or start > end:
        raise RequestError(
            f"guidance_start={start} and guidance_end={end} must be shares of the steps from 0 to 1, the first not "
            "above the second; guidance=1 switches guidance off"
        )


def check_side(name: str, value: int, pixel_step: int, resolution: int, limit: int | None = None) -> None:
    """Refuse a width or height that the base cannot draw.

    Args:
        name: of the setting.
        value: px.
        pixel_step: it must be a multiple of this.
        resolution: as in `Request.check`.
        limit: px, of a service that draws less than its base could; None: the base's own.

    Raises:
        RequestError: not a multiple of `pixel_step`, above `MOST_TIMES` the `resolution` it was trained for, or above
            `limit`.
    """
    if value < pixel_step or value % pixel_step:
        raise RequestError(f"{name}={value} must be a multiple of {pixel_step} pixels")
    most = MOST_TIMES * resolution
    if value > min(most, limit or most):
        way_out = "" if limit is not None and limit < most else ", or a larger base"
        raise RequestError(
            f"{name}={value} is out of range: this base draws {resolution} x {resolution} pixels; "
            f"use up to {min(most, limit or most)} along a side{way_out}"
        )


def merge_step_of(start_merge_step: int, steps: int) -> int:
    """Our merge step for the published `start_merge_step`, the last step that sees the text only."""
    return max(0, min(whole("start_merge_step", start_merge_step) + 1, whole("steps", steps)))


def request_of(sampler: SamplerConfig, prompt: str, **fields: Any) -> Request:
    """A request with the settings of a configuration; `fields` are the other fields of `Request`; LoRAs are added."""
    fields["loras"] = strengths(sampler.loras) | dict(fields.get("loras") or {})
    return Request(
        prompt=prompt,
        steps=sampler.steps,
        guidance=sampler.guidance,
        merge_step=sampler.merge_step if fields.get("id_start") is None else None,
        negative_prompt=sampler.negative_prompt or None,
        eta=sampler.eta,
        schedule=sampler.schedule,
        guidance_start=sampler.guidance_start,
        guidance_end=sampler.guidance_end,
        cache_interval=sampler.cache_interval,
        **fields,
    )
