"""What passes between HTTP and the engines; neither room imports the other."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from pm.model.weighting import Weighting
from pm.sample.schedules.base import ScheduleChoice

# What a photo is for.
IDENTITY, IMAGE, MASK, CONTROL, PROMPT, REGION = "identity", "image", "mask", "control", "prompt", "region"


@dataclass(frozen=True)
class Photo:
    """One uploaded photo, checked and decoded."""

    digest: str  # SHA-256 of the file
    pixels: np.ndarray  # uint8 RGB [H, W, 3]; of IMAGE and MASK with transparent parts RGBA [H, W, 4]
    use: str = IDENTITY  # IMAGE: the picture to change; PROMPT: for an image prompt


@dataclass(frozen=True)
class ControlJob:
    """What one control does; its picture is among the photos."""

    name: str
    scale: float
    start: float
    end: float
    preprocess: Literal["none", "canny"]


@dataclass(frozen=True)
class PersonJob:
    """One of several people; regions, if there are any, are among the photos."""

    photos: int  # so many of the ID photos, in their order
    box: tuple[float, ...] | str | None  # as in `pm.sample.people.Person`


@dataclass(frozen=True)
class Sampling:
    """What a job has of its own in how it is sampled."""

    schedule: ScheduleChoice
    eta: float
    guidance_start: float
    guidance_end: float
    cache_interval: int
    merge_fraction: float | None  # None: as is usual for the base


@dataclass(frozen=True)
class Job:
    """One image to make: everything the engine needs, except the photos. Every value is decided, also the seed, so
    that a second try on another replica makes the same image."""

    request_id: str
    tenant: str  # the key's name; identities are cached for it alone
    model: str
    prompt: str
    negative_prompt: str | None  # None: the base's null text
    seed: int
    steps: int
    guidance: float
    start_merge_step: int | None  # the last step that sees the text only; None: the service's own share of the steps
    weights: tuple[float, ...] | None
    width: int | None  # pixels
    height: int | None
    preprocess: str
    pick: str
    partials: int
    strength: float | None = None  # of the picture to change; None: what is usual with or without a mask
    people: tuple[PersonJob, ...] = ()  # (): one
    controls: tuple[ControlJob, ...] = ()  # in the order of their photos
    prompt_model: str | None = None  # the IP-Adapter that reads the photos of the image prompt; None: the only one
    prompt_scale: float = 1.0
    loras: tuple[tuple[str, float], ...] = ()  # names and strengths
    guidance_rescale: float = 0.0
    clip_skip: int = 0
    sampler: Sampling | None = None  # None: as the service is configured
    aspect: str | None = None  # instead of width and height
    scale: float | None = None  # of an image prompt; None: the adapter's own
    id_strength: float = 1.0  # of all photos at once
    id_start: float | None = None  # share of the steps that see the text only; instead of `start_merge_step`
    id_end: float = 1.0  # share of the steps after which the text is seen alone again
    class_word: str | None = None  # instead of the prompt's
    prompt_weighting: Weighting = "explicit"
    trigger: Literal["required", "auto"] = "required"
    fit: bool = False  # draw a size that cannot be drawn as the nearest that can, and say so; else refuse it
    format: Literal["png", "jpeg", "webp"] = "png"
    quality: int = 100  # of JPEG and WebP, 1 to 100
    notes: tuple[str, ...] = ()  # for the client, of what the fields were taken for
    progress: bool = False  # tell the place in the queue and every step


@dataclass(frozen=True)
class Look:
    """What a model would see of photos: how they are prepared."""

    request_id: str
    model: str
    preprocess: str
    pick: str


class Backend(Protocol):
    """What the ingress needs to know of the engines."""

    def share(self, photos: Sequence[Photo]) -> Any:
        """Photos in the form that `generate` takes: once, however many images are made of them."""

    def generate(self, job: Job, photos: Any) -> AsyncGenerator[dict[str, Any], None]:
        """One image, as `Engine.generate` tells it. Closing the iterator gives it up.

        Raises:
            ApiError: no engine can take it.
        """

    async def look(self, look: Look, photos: Any) -> list[dict[str, Any]]:
        """What a model sees of each photo, as `Engine.look` tells it.

        Raises:
            ApiError: no engine can take it.
        """

    async def ready(self) -> bool:
        """Whether a request would be served."""
