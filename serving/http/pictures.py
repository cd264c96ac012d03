"""Pictures of a request besides the ID photos: which is changed, what of it, and what controls the image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from serving.errors import ApiError, invalid
from serving.http.lists import listed
from serving.http.people import People, person_jobs, read_people
from serving.jobs import CONTROL, IDENTITY, IMAGE, MASK, PROMPT, REGION, ControlJob

# Fields of a form that hold files, besides image[]: how many of each, and what the engine takes them for.
FILES = {
    "init_image": (1, IMAGE),
    "mask": (1, MASK),
    "control_image": (4, CONTROL),
    "image_prompt": (4, PROMPT),
    "region": (16, REGION),
}
ABOUT = {
    "init_image": "Picture to change; image[] are then all photos of the person.",
    "mask": "Transparent, or white where nothing is transparent, is drawn anew; of init_image, or of the first image.",
    "control_image": "One for each name in control.",
    "image_prompt": "Pictures for the style, through an IP-Adapter.",
    "region": "Where each of people is, in white; instead of their boxes.",
}
LISTS = ("control", "control_scale", "control_start", "control_end", "control_preprocess")


class PictureFields(BaseModel):
    """Fields that say what pictures are for."""

    strength: float | None = Field(
        None, gt=0, le=1, allow_inf_nan=False, description="How much of init_image is drawn anew; with a mask: 1."
    )
    people: People = Field(
        None, description="Several people, in the order of img, img2, ...: how many of image[], and where each is."
    )
    control: list[str] | None = Field(None, description="Names of controls of this server, one per control_image.")
    control_scale: list[float] | None = Field(None, description="Of each control, 0 to 10; 1: as trained.")
    control_start: list[float] | None = Field(None, description="Share of the steps before each control acts.")
    control_end: list[float] | None = Field(None, description="Share of the steps after which each does no more.")
    control_preprocess: list[Literal["none", "canny"]] | None = Field(None, description="canny: take its edges.")
    image_prompt_model: str | None = Field(None, description="Which IP-Adapter of /v1/models reads image_prompt.")
    image_prompt_scale: float | None = Field(None, ge=0, le=10, allow_inf_nan=False, description="Default: 1.")

    @field_validator("people", mode="before")
    @classmethod
    def _read_people(cls, value: Any) -> Any:
        return read_people(value)

    @field_validator(*LISTS, mode="before")
    @classmethod
    def _split_lists(cls, value: Any) -> Any:
        return listed(value)


@dataclass(frozen=True)
class Uploaded:
    """One picture of a request."""

    use: str  # of `serving.jobs`
    name: str  # for messages
    data: bytes


def sorted_out(photos: Sequence[bytes], files: Mapping[str, Sequence[bytes]], base_alone: bool) -> list[Uploaded]:
    """What each picture of a form is for.

    `init_image` is the picture to change; all `image[]` are then photos of the person. With a `mask` and no
    `init_image` the first `image[]` is the one that is changed, as OpenAI has it, and the others show the person; if
    there is no other, it shows the person, too.

    Args:
        photos: `image[]`.
        files: the other fields with files.
        base_alone: no adapter is asked for, so nobody is shown.

    Raises:
        ApiError: no picture, or a mask without one.
    """
    people = [Uploaded(IDENTITY, f"image[{i}]", data) for i, data in enumerate(photos)]
    others = [Uploaded(FILES[name][1], name, data) for name, found in files.items() for data in found]
    if files.get("mask") and not files.get("init_image"):
        if not people:
            raise invalid("mask is given without a picture; send it as image, or as init_image", "mask")
        shown = people[1:] or ([] if base_alone else people)
        return [*shown, Uploaded(IMAGE, "image[0]", photos[0]), *others]
    if not people and not others:
        raise invalid("no photo; send photos of the person as image[]", "image", code="missing_required_parameter")
    return [*people, *others]


def picture_fields(
    wanted: PictureFields, uploaded: Sequence[Uploaded], controls: Mapping[str, str], adapters: Mapping[str, str]
) -> dict[str, Any]:
    """What the pictures say, as fields of `Job`.

    Args:
        wanted: the request.
        uploaded: its pictures.
        controls: of this server.
        adapters: likewise.

    Raises:
        ApiError: a field without its picture, a picture without its field, or a name that is not served.
    """
    count = {use: sum(picture.use == use for picture in uploaded) for use in (IDENTITY, IMAGE, CONTROL, PROMPT, REGION)}
    if wanted.strength is not None and not count[IMAGE]:
        raise invalid("strength is of the picture to change; send that as init_image", "strength")
    for name in ("image_prompt_model", "image_prompt_scale"):
        if getattr(wanted, name) is not None and not count[PROMPT]:
            raise invalid(f"{name} is given without pictures; send those as image_prompt[]", name)
    model = wanted.image_prompt_model
    if model is not None and model not in adapters:
        message = f"image_prompt_model {model[:60]!r} is not here; use {', '.join(adapters)}"
        raise ApiError(404, message, code="model_not_found", param="image_prompt_model")
    scale = 1.0 if wanted.image_prompt_scale is None else wanted.image_prompt_scale
    return {
        "strength": wanted.strength,
        "people": person_jobs(wanted.people, count[IDENTITY], count[REGION]),
        "controls": tuple(_controls(wanted, count[CONTROL], controls)),
        "prompt_model": model,
        "prompt_scale": scale,
    }


def _controls(wanted: PictureFields, count: int, known: Mapping[str, str]) -> list[ControlJob]:
    names = wanted.control or []
    if len(names) != count:
        raise invalid(f"{len(names)} names in control for {count} control_image; give one for each", "control")
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        here = f"use {', '.join(known)}" if known else "this server has none"
        raise invalid(f"control {unknown[:60]!r} is not here; {here}", "control")
    columns: dict[str, list[Any]] = {}
    for name, default, most in (("scale", 1.0, 10.0), ("start", 0.0, 1.0), ("end", 1.0, 1.0)):
        columns[name] = _column(wanted, f"control_{name}", count, default)
        wrong = next((value for value in columns[name] if not 0 <= value <= most), None)
        if wrong is not None:
            raise invalid(f"control_{name}={wrong} is out of range; use 0 to {most:g}", f"control_{name}")
    columns["preprocess"] = _column(wanted, "control_preprocess", count, "none")
    rows = zip(names, *columns.values(), strict=True)
    return [ControlJob(name, scale, start, end, preprocess) for name, scale, start, end, preprocess in rows]


def _column(wanted: PictureFields, name: str, count: int, default: Any) -> list[Any]:
    values: list[Any] | None = getattr(wanted, name)
    if values is None:
        return [default] * count
    if len(values) != count:
        raise invalid(f"{len(values)} values in {name} for {count} control_image; give one for each", name)
    return values
