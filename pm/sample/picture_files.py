"""Pictures, controls and image prompts that a configuration names, as fields of requests."""

import functools
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from pm.errors import RequestError
from pm.photo.pixels import open_photo, upright
from pm.sample.controls import ControlImage, control_notes
from pm.sample.pictures import PromptImages, notes_of, size_of
from pm.sample.references import find_references

if TYPE_CHECKING:
    from pm.model.families.base import BaseShapes
    from pm.sample.config import GenerateConfig
    from pm.sample.loaded_controls import LoadedControls
    from pm.sample.request import Request


def picture_fields(config: "GenerateConfig") -> dict[str, Any]:
    """Fields of `Request`; every file is read once.

    Raises:
        RequestError: a file cannot be read.
    """
    controls = [
        ControlImage(
            image=load_picture("controls: image", each.image),
            name=each.path,
            scale=each.scale,
            start=each.start,
            end=each.end,
            preprocess=each.preprocess,
        )
        for each in config.controls
    ]
    found: dict[str, Any] = {"strength": config.strength, "controls": controls}
    for name in ("image", "mask_image"):
        path = getattr(config, name)
        found[name] = None if path is None else load_picture(name, path)
    prompt = config.image_prompt
    if prompt is not None:
        paths = find_references(prompt.images)
        images = [load_picture("image_prompt", str(path)) for path in paths]
        found["image_prompt"] = PromptImages(images, prompt.scale, prompt.adapter)
        found["adapter"] = "base" if config.adapter is None else None
    return found


def load_extras(pipeline: "LoadedControls", config: "GenerateConfig") -> None:
    """Load the controls and the IP-Adapter of a configuration.

    Raises:
        CheckpointError: one cannot be used.
    """
    for place in dict.fromkeys(each.path for each in config.controls):
        pipeline.load_control(place)
    if config.image_prompt is not None:
        pipeline.load_image_prompt(config.image_prompt.adapter, check_base=config.check_base)


def picture_notes(request: "Request", shapes: "BaseShapes") -> list[str]:
    """What the user should know of the pictures of a request."""
    size = size_of(request, shapes)
    return [*notes_of(request, size), *control_notes(request.controls, size)]


def about_files(config: "GenerateConfig") -> dict[str, object]:
    """What a picture's file says of the pictures that it was made of."""
    named = {name: getattr(config, name) for name in ("image", "mask_image", "strength")}
    found: dict[str, object] = {name: value for name, value in named.items() if value is not None}
    if config.controls:
        found["controls"] = json.dumps([asdict(each) for each in config.controls])
    if config.image_prompt is not None:
        found["image_prompt"] = json.dumps(asdict(config.image_prompt))
    return found


@functools.lru_cache(maxsize=32)
def load_picture(name: str, path: str) -> Image.Image:
    """Decode a picture file upright, with its transparent parts.

    Raises:
        RequestError: it is not there, or no picture.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise RequestError(f"{name}={path} does not exist ({file.absolute()}); give a picture's file")
    try:
        with open_photo(file) as image:
            return upright(image).copy()
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise RequestError(f"{name}={path} cannot be read ({error}); give a PNG, JPEG or WebP file") from error
