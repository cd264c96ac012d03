"""Sizes that clients of other services ask for, as this base can draw them."""

import math

from pm.sample import PhotoMakerPipeline
from pm.sample.request import MOST_TIMES, check_side
from pm.sample.sizes import aspect_size
from serving.jobs import Job


def fitted(width: int, height: int, *, pixel_step: int, resolution: int, most: int) -> tuple[int, int]:
    """The nearest size that can be drawn.

    What fits is rounded. What is too large becomes the same shape with as many pixels as the base was trained for: at
    the largest size that is allowed a U-Net draws people twice.

    Args:
        width: px, at least 1.
        height: likewise.
        pixel_step: sides are multiples of this.
        resolution: side that the base was trained for, px.
        most: px along a side.
    """
    scale = 1.0 if max(width, height) <= most else resolution / math.sqrt(width * height)
    highest = most // pixel_step * pixel_step

    def side(value: int) -> int:
        return min(highest, max(pixel_step, math.floor(value * scale / pixel_step + 0.5) * pixel_step))

    return side(width), side(height)


def drawn_size(job: Job, pipeline: PhotoMakerPipeline, most: int) -> tuple[int | None, int | None, list[str]]:
    """Width and height of a job's image in pixels, and what to say of them; `most`: px a side that the service draws.

    Raises:
        RequestError: it cannot be drawn, and another shall not be.
    """
    width, height, base = job.width, job.height, pipeline.base
    if job.aspect is not None:
        width, height = aspect_size(job.aspect, base.resolution, pipeline.pixel_step)
    if width is None or height is None:
        return width, height, []
    notes, step = list[str](), pipeline.pixel_step
    if job.fit and min(width, height) > 0:
        allowed = min(most, MOST_TIMES * base.resolution)
        size = fitted(width, height, pixel_step=step, resolution=base.resolution, most=allowed)
        if size != (width, height):
            notes = [f"size={width}x{height} cannot be drawn here; {size[0]}x{size[1]} is the nearest that can"]
        width, height = size
    for name, side in (("width", width), ("height", height)):
        check_side(f"size: {name}", side, step, base.resolution, most)
    return width, height, notes
