"""One image to make, and what is wrong with it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from pm.errors import RequestError

# Share of the steps that see the text only, when a request does not say: the published demo's default style strength.
MERGE_FRACTION = 0.2


@dataclass(frozen=True)
class Request:
    """What one image shall be. The defaults of steps and guidance are the paper's (section 4.1)."""

    prompt: str  # with the trigger word after the class word; plain when there is no adapter
    id_images: Sequence[Image.Image] = ()  # crops around the face; not square: the centred square is taken
    masks: Sequence[Image.Image | None] | None = None  # white = the person; noise replaces the rest
    weights: Sequence[float] | None = None  # per image: from the class word alone (0) through itself (1) beyond
    seed: int = 0
    steps: int = 50
    guidance: float = 5.0  # 1: off
    merge_step: int | None = None  # first step that sees the identity; None: after a fifth of the steps
    negative_prompt: str = ""
    eta: float = 0.0
    width: int | None = None  # pixels; None: what the base was trained for
    height: int | None = None

    @property
    def first_merged(self) -> int:
        """The merge step, whether given or not."""
        return round(MERGE_FRACTION * self.steps) if self.merge_step is None else self.merge_step

    def check(self, *, max_id_images: int | None, pixel_step: int) -> None:
        """Check everything that needs no model.

        Args:
            max_id_images: N_max of the adapter; None when there is no adapter.
            pixel_step: width and height must be multiples of this.

        Raises:
            RequestError: names the first thing that cannot be served.
        """
        self._check_images(max_id_images)
        if not 0 <= self.seed < 2**63:
            raise RequestError(f"seed={self.seed} is out of range; use 0 to 2^63 - 1")
        if self.steps < 1:
            raise RequestError(f"steps={self.steps} must be at least 1")
        if not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise RequestError(f"guidance={self.guidance} must be 0 or more; 1 switches it off")
        if not 0 <= self.first_merged <= self.steps:
            raise RequestError(f"merge_step={self.first_merged} is out of range; use 0 to steps={self.steps}")
        for name in ("width", "height"):
            value = getattr(self, name)
            if value is not None and (value < pixel_step or value % pixel_step):
                raise RequestError(f"{name}={value} must be a multiple of {pixel_step} pixels")

    def _check_images(self, max_id_images: int | None) -> None:
        count = len(self.id_images)
        if max_id_images is None:
            if count:
                raise RequestError(f"{count} ID images given but no adapter is loaded; pass adapter=<file>")
        elif not 1 <= count <= max_id_images:
            raise RequestError(f"{count} ID images given; this adapter takes 1 to {max_id_images}")
        for name in ("masks", "weights"):
            values = getattr(self, name)
            if values is not None and len(values) != count:
                raise RequestError(f"{len(values)} {name} given for {count} ID images; give one for each, or none")
        for weight in self.weights or ():
            if not (math.isfinite(weight) and weight >= 0):
                raise RequestError(f"weight {weight} of an ID image must be 0 or more; 1 is neutral")
