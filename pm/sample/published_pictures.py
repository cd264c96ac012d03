"""Pictures in the published interface, by the names of diffusers' pipelines for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pm.errors import RequestError
from pm.sample.controls import ControlImage
from pm.sample.picture_files import load_picture
from pm.sample.pictures import PromptImages, check_image, size_of
from pm.sample.request import Request


@dataclass(frozen=True)
class Pictures:
    """Arguments of a call; pictures are Pillow images, uint8 arrays [H, W, 3 or 4] or file names."""

    image: Any = None  # to change
    mask_image: Any = None  # of it: white, or transparent, is drawn anew
    strength: float | None = None  # how much of it is
    control_image: Any = None  # one, a list in the order of `pipe.controls`, or a picture for each name
    controlnet_conditioning_scale: float | Sequence[float] = 1.0  # one for all, or a list
    control_guidance_start: float | Sequence[float] = 0.0
    control_guidance_end: float | Sequence[float] = 1.0
    ip_adapter_image: Any = None  # one, or a list, for the IP-Adapter beside the identity
    ip_adapter_scale: float = 1.0


def pictures_of(
    pipeline: Any, given: Mapping[str, Any], width: int | None, height: int | None
) -> tuple[dict[str, Any], int, int]:
    """Fields of `Request` for all images of a call, and their width and height.

    Raises:
        TypeError: an argument that no call has.
        RequestError: a picture or a number that cannot be used.
    """
    known = {field.name for field in fields(Pictures)}
    odd = next((name for name in given if name not in known), None)
    if odd is not None:
        raise TypeError(f"PhotoMakerPipeline.__call__() got an unexpected keyword argument {odd!r}")
    found = Pictures(**given)
    image = _picture("image", found.image)
    styles = [] if found.ip_adapter_image is None else _listed(found.ip_adapter_image)
    prompt = PromptImages([_picture("ip_adapter_image", each) for each in styles], found.ip_adapter_scale)
    settings = {
        "image": image,
        "mask_image": _picture("mask_image", found.mask_image),
        "strength": found.strength,
        "controls": _controls(pipeline, found),
        "image_prompt": prompt if styles else None,
    }
    size = size_of(Request("", image=image, width=width, height=height), pipeline.base.shapes)
    return settings, *size


def _controls(pipeline: Any, found: Pictures) -> list[ControlImage]:
    if found.control_image is None:
        return []
    if isinstance(found.control_image, Mapping):
        names, images = list(found.control_image), list(found.control_image.values())
    else:
        images = _listed(found.control_image)
        names = list(pipeline.controls)
        if len(names) != len(images):
            raise RequestError(
                f"{len(images)} control_image given for {len(names)} controls that are loaded; give one for each, or "
                "a mapping from names to pictures"
            )
    columns = []
    for name in ("controlnet_conditioning_scale", "control_guidance_start", "control_guidance_end"):
        value = getattr(found, name)
        values = list(value) if isinstance(value, Sequence) else [value] * len(images)
        if len(values) != len(images):
            raise RequestError(f"{name} has {len(values)} values for {len(images)} control_image; give one for each")
        columns.append(values)
    rows = zip(names, images, *columns, strict=True)
    return [
        ControlImage(name=name, image=_picture("control_image", image), scale=scale, start=start, end=end)
        for name, image, scale, start, end in rows
    ]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _picture(name: str, value: Any) -> Any:
    """A Pillow image of what is given."""
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3):
        value = Image.fromarray(value)
    if isinstance(value, str | Path):
        value = load_picture(name, str(value))
    if value is not None:
        check_image(name, value)
    return value
