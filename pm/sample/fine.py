"""The finer settings of a request, which most leave alone: what is wrong with them, and what they mean.

Guidance that is rescaled, text encoders that skip layers, sizes that SDXL is told, steps of one's own.
"""

import math
import numbers
from typing import TYPE_CHECKING, Any

from pm.errors import RequestError

if TYPE_CHECKING:
    from pm.model.base import BaseModel
    from pm.sample.request import Request
    from pm.sample.schedule import Schedule
    from pm.sample.schedules.base import Plan

TimeIds = tuple[float, ...]
_SIZES = ("original_size", "target_size", "negative_original_size", "negative_target_size")
_CORNERS = ("crop_corner", "negative_crop_corner")


def check_fine(request: "Request") -> None:
    """Check what needs no model.

    Raises:
        RequestError: names the first setting that cannot be served.
    """
    for name, least, most in (("guidance_rescale", 0, 1), ("denoising_end", 0, 1)):
        value = getattr(request, name)
        if value is not None and not (_finite(value) and least <= value <= most):
            raise RequestError(f"{name}={value!r} is out of range; use {least} to {most}")
    if request.denoising_end == 0:
        raise RequestError("denoising_end=0 leaves no step; use a share above 0, or None for all steps")
    if not isinstance(request.clip_skip, numbers.Integral) or request.clip_skip < 0:
        raise RequestError(f"clip_skip={request.clip_skip!r} must be a whole number, 0 or more")
    for name in (*_SIZES, *_CORNERS):
        _check_pair(name, getattr(request, name), 1 if name in _SIZES else 0)
    for name in ("prompt_2", "negative_prompt_2"):
        value = getattr(request, name)
        if value is not None and not isinstance(value, str):
            raise RequestError(f"{name}={value!r} must be a text")
    if request.negative_prompt_2 is not None and request.negative_prompt is None:
        raise RequestError("negative_prompt_2 stands beside negative_prompt; give that too ('' for an empty one)")
    _check_steps(request)


def check_fine_for(request: "Request", base: "BaseModel") -> None:
    """Check what depends on the base.

    Raises:
        RequestError: it takes no such setting, or not of this value.
    """
    named = base.family.title
    if request.clip_skip and not base.family.takes_clip_skip:
        raise RequestError(f"clip_skip={request.clip_skip} is not for this base ({named}); leave it out")
    most = base.shapes.text_layers - 1
    if request.clip_skip > most:
        raise RequestError(
            f"clip_skip={request.clip_skip} is out of range; this base's text encoders allow 0 to {most}"
        )
    for name in ("prompt_2", "negative_prompt_2"):
        if getattr(request, name) is not None and len(base.tokenizers) < 2:
            raise RequestError(f"{name} is for a second text encoder, which this base ({named}) lacks; leave it out")
    if request.prompt_2 is not None and request.words:
        raise RequestError("prompt_2 cannot be used with learned words; write everything into the prompt")


def told(request: "Request", base: "BaseModel", width: int, height: int) -> tuple[TimeIds, TimeIds | None]:
    """What the U-Net is told of the picture's origin, and of that which guidance moves away from (None: the same).

    Where one of the negative settings is given, the sizes that are not are those of the prompt, and the corner (0, 0).
    """
    original, target = request.original_size or (height, width), request.target_size or (height, width)
    ids = base.family.time_ids(original, request.crop_corner, target)
    negative = (request.negative_original_size, request.negative_crop_corner, request.negative_target_size)
    if negative == (None, None, None):
        return ids, None
    return ids, base.family.time_ids(negative[0] or original, negative[1] or (0, 0), negative[2] or target)


def plan_for(schedule: "Schedule", request: "Request") -> "Plan":
    """The steps of a request.

    Raises:
        RequestError: the schedule cannot take them.
    """
    schedule = schedule.of(request.schedule)
    if request.timesteps is None and request.sigmas is None:
        plan = schedule.plan(request.steps, request.eta)
    else:
        plan = schedule.custom(request.timesteps, request.sigmas, request.eta)
    if request.denoising_end is None or request.denoising_end == 1:
        return plan
    total = len(schedule.levels.alpha_bar)
    last = round(total - request.denoising_end * total)
    kept = int((plan.timesteps >= last).sum())
    if kept == 0:
        raise RequestError(f"denoising_end={request.denoising_end} leaves no step of {plan.steps}; use a larger share")
    return plan.first(kept)


def _check_steps(request: "Request") -> None:
    if request.timesteps is not None and request.sigmas is not None:
        raise RequestError("both timesteps and sigmas are given; give one of them")
    for name, extra in (("timesteps", 0), ("sigmas", 1)):
        values = getattr(request, name)
        if values is None:
            continue
        if not all(_finite(value) and value >= 0 for value in values) or len(values) <= extra:
            raise RequestError(f"{name}={list(values)!r:.100} must be numbers from 0, the largest first")
        if any(b >= a for a, b in zip(values, values[1:], strict=False)):
            raise RequestError(f"{name}={list(values)!r:.100} must fall from step to step")
        if len(values) != request.steps + extra:
            more = " and what remains at the end" if extra else ""
            raise RequestError(f"{len(values)} {name} given for steps={request.steps}; give one for each step{more}")


def _check_pair(name: str, value: Any, least: int) -> None:
    if value is None:
        return
    try:
        fine = len(value) == 2 and all(_finite(side) and side >= least for side in value)
    except TypeError:
        fine = False
    if not fine:
        what = "height and width" if name in _SIZES else "top and left"
        raise RequestError(f"{name}={value!r} must be {what} in pixels, for example (1024, 1024)")


def _finite(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
