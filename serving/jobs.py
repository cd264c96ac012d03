"""What passes between HTTP and the engines; neither room imports the other."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Photo:
    """One uploaded photo, checked and decoded."""

    digest: str  # SHA-256 of the file
    pixels: np.ndarray  # uint8 RGB [H, W, 3]


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


class Backend(Protocol):
    """What the ingress needs to know of the engines."""

    def share(self, photos: Sequence[Photo]) -> Any:
        """Photos in the form that `generate` takes: once, however many images are made of them."""

    def generate(self, job: Job, photos: Any) -> AsyncGenerator[dict[str, Any], None]:
        """One image, as `Engine.generate` tells it. Closing the iterator gives it up.

        Raises:
            ApiError: no engine can take it.
        """

    async def ready(self) -> bool:
        """Whether a request would be served."""
