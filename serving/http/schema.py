"""What a client may ask, in OpenAI's words plus ours, and what it means for the engine."""

import fnmatch
import math
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator

from serving.config import BASE, ServeConfig, ServiceConfig
from serving.errors import ApiError, invalid
from serving.http.hints import unknown_field
from serving.http.lists import listed
from serving.http.loras import known_loras, read_loras
from serving.http.pictures import LISTS, PictureFields
from serving.jobs import Job
from serving.sampling import sampler_of, sampling_of, served_loras

_QUALITY = 95  # of JPEG and WebP
_WORD_CHARS = 60
# Fields of `Job` that are taken as they are.
_AS_GIVEN = {"guidance_rescale", "clip_skip", "aspect", "scale", "id_strength", "id_start", "id_end", "class_word"}


class ImageRequest(PictureFields):
    """The fields of `/v1/images/generations` (JSON) and, beside `image[]`, of `/v1/images/edits` (multipart)."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(
        description="With the trigger word after the class word: 'a man img wearing a red hoodie'. Weights are read: "
        "'a (man img:1.2) in a (red:1.3) hoodie'."
    )
    model: str | None = Field(None, description="A name from /v1/models; default: the first adapter, or the base.")
    n: int = Field(1, description="How many images; their seeds are seed, seed + 1, ...")
    size: str = Field("auto", description="WIDTHxHEIGHT in pixels, or auto: what the base was trained for.")
    aspect: str | None = Field(None, description="Instead of size: 3:4, portrait, landscape, square, tall or wide.")
    response_format: Literal["b64_json", "url"] = Field("b64_json", description="url answers a data: URL.")
    stream: bool = Field(False, description="Server-sent events.")
    partial_images: int = Field(0, ge=0, le=3, description="Previews of each image on the way, with stream.")
    progress: bool = Field(False, description="Events of the place in the queue and of each step, with stream.")

    steps: int | None = Field(None, ge=1, description="Denoising steps.")
    guidance_scale: float | None = Field(None, ge=0, le=100, allow_inf_nan=False, description="1: off.")
    guidance_rescale: float = Field(0.0, ge=0, le=1, allow_inf_nan=False, description="Against overexposure; 0: none.")
    clip_skip: int = Field(0, ge=0, le=24, description="Last layers of the text encoders that the prompt leaves out.")
    start_merge_step: int | None = Field(
        None, ge=-1, description="The last step that sees the text only, from 0; -1: none (the published meaning)."
    )
    loras: dict[str, float] | None = Field(
        None, description="Style LoRAs of /v1/loras and their strengths; in a form also ink:0.8,oil."
    )
    sampler: str | None = Field(
        None, description="Schedule, steps and guidance by name, where the request does not say: dpmpp_2m, unipc, ..."
    )
    guidance_start: float | None = Field(None, ge=0, le=1, description="Share of the steps before guidance.")
    guidance_end: float | None = Field(None, ge=0, le=1, description="Share of the steps after which there is none.")
    eta: float | None = Field(None, ge=0, le=1, description="Noise that DDIM adds; gamma of TCD.")
    id_strength: float = Field(
        1.0, ge=0, le=1.5, allow_inf_nan=False, description="Of all photos at once: 0 the word alone, 1 the photos."
    )
    id_start: float | None = Field(
        None, ge=0, le=1, description="Share of the steps that see the text only; instead of start_merge_step."
    )
    id_end: float = Field(1.0, ge=0, le=1, description="Share of the steps after which the text is seen alone again.")
    scale: float | None = Field(
        None, ge=0, le=10, allow_inf_nan=False, description="Of an IP-Adapter's image prompt: 0 the base, 1 as trained."
    )
    class_word: str | None = Field(None, description="Instead of the prompt's: 'girl' for a woman's photos.")
    prompt_weighting: Literal["explicit", "full", "none"] | None = Field(
        None, description="explicit: (hat:1.2), escapes, BREAK; full: also (hat) and [hat]; none: all is text."
    )
    trigger: Literal["required", "auto"] | None = Field(
        None, description="auto: a prompt without the trigger word gets it after its first class word."
    )
    id_weights: list[float] | None = Field(None, description="One per photo: 0 the word alone, 1 the photo, or beyond.")
    seed: int | None = Field(None, ge=0, lt=2**63 - 64, description="The same seed gives the same image.")
    negative_prompt: str | None = None
    preprocess: Literal["auto", "none", "photo", "drawing"] | None = Field(
        None, description="auto: as the adapter was trained; none: the photos as they are; photo: find the face."
    )
    pick: Literal["largest", "left", "middle", "right"] | None = Field(
        None, description="Which of several faces of a photo; default: largest."
    )

    output_format: Literal["png", "jpeg", "webp"] = "png"
    output_compression: int | None = Field(
        None, ge=0, le=100, description="Quality of JPEG and WebP; WebP at 100 keeps every pixel."
    )

    # Accepted so that existing programs run; there is one quality and one background.
    quality: str | None = None
    background: Literal["auto", "opaque", "transparent"] | None = None
    input_fidelity: str | None = None
    moderation: str | None = None
    style: str | None = None
    user: str | None = None
    safety_identifier: str | None = None

    @field_validator("id_weights", mode="before")
    @classmethod
    def _split_weights(cls, value: Any) -> Any:
        return listed(value)

    @field_validator("loras", mode="before")
    @classmethod
    def _read_loras(cls, value: Any) -> Any:
        return read_loras(value)

    @field_validator("id_weights")
    @classmethod
    def _finite(cls, value: list[float] | None) -> list[float] | None:
        for weight in value or ():
            if not (math.isfinite(weight) and 0 <= weight <= 10):
                raise ValueError(f"{weight} is out of range; use 0 to 10, 1 is neutral")
        return value


def parse(fields: Mapping[str, Any], compat: bool) -> ImageRequest:
    """Check types and ranges that hold for every service.

    Args:
        fields: of the body; null means unset.
        compat: empty text means unset, too: forms send what nobody filled in.

    Raises:
        ApiError: names the first field that is wrong.
    """
    fields = {name: value for name, value in fields.items() if value is not None and not (compat and value == "")}
    unknown = next((name for name in fields if name not in ImageRequest.model_fields), None)
    if unknown is not None:
        raise invalid(unknown_field(unknown, ImageRequest.model_fields), unknown[:60], code="unknown_parameter")
    try:
        return ImageRequest.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name = str(first["loc"][0]) if first["loc"] else None
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "missing":
            raise invalid(f"{name} is missing", name, code="missing_required_parameter") from None
        raise invalid(f"{name}={_shown(fields.get(name or ''))}: {message}", name) from None


def jobs(
    request: ImageRequest,
    photos: int,
    config: ServeConfig,
    adapters: Mapping[str, str],
    loras: Collection[str] = (),
    *,
    request_id: str,
    tenant: str,
) -> list[Job]:
    """Check what this service allows, fill in its defaults, and split into single images.

    Args:
        photos: how many came with it.
        adapters: those served at present.
        loras: names of the LoRAs served at present.

    Raises:
        ApiError: 400, or 404 for a model that is not there.
    """
    sampler, compat = sampler_of(request, config), config.service.compat
    steps = sampler.steps if request.steps is None else request.steps
    _check(request, photos, steps, config)
    width, height = _size(request.size, request.aspect)
    model = _model(request.model, photos, adapters, config.service)
    seed = secrets.randbelow(2**32) if request.seed is None else request.seed
    return [
        Job(
            request_id=request_id,
            tenant=tenant,
            model=model,
            prompt=request.prompt,
            # An empty one means none, as in the base's training, not the encoded empty text.
            negative_prompt=(sampler.negative_prompt if request.negative_prompt is None else request.negative_prompt)
            or None,
            seed=seed + i,
            steps=steps,
            guidance=sampler.guidance if request.guidance_scale is None else request.guidance_scale,
            start_merge_step=request.start_merge_step,
            weights=None if request.id_weights is None else tuple(request.id_weights),
            prompt_weighting=request.prompt_weighting or config.prompt_weighting,
            trigger=request.trigger or ("auto" if compat else "required"),
            width=width,
            height=height,
            fit=compat,
            format=request.output_format,
            notes=_notes(request, model),
            quality=_QUALITY if request.output_compression is None else max(1, request.output_compression),
            preprocess=request.preprocess or config.preprocess,
            pick=request.pick or config.pick,
            partials=request.partial_images,
            progress=request.progress,
            **request.model_dump(include=_AS_GIVEN),
            loras=known_loras(served_loras(sampler) | (request.loras or {}), loras, config.limits.loras),
            sampler=sampling_of(sampler),
        )
        for i in range(request.n)
    ]


def _check(request: ImageRequest, photos: int, steps: int, config: ServeConfig) -> None:
    limits = config.limits
    _check_text("prompt", request.prompt, limits.prompt_chars, required=True)
    _check_text("class_word", request.class_word or "", _WORD_CHARS)
    _check_text("negative_prompt", request.negative_prompt or "", limits.prompt_chars)
    if not 1 <= request.n <= limits.images:
        raise invalid(f"n={request.n} is out of range; use 1 to {limits.images}", "n")
    if steps > limits.steps:
        raise invalid(f"steps={steps} is out of range; use 1 to {limits.steps}", "steps")
    if request.id_weights is not None and len(request.id_weights) != photos:
        problem = f"{len(request.id_weights)} id_weights given for {photos} photos"
        raise invalid(f"{problem}; give one for each", "id_weights")
    for name in ("partial_images", "progress"):
        if getattr(request, name) and not request.stream:
            raise invalid(f"{name} needs stream=true", name)
    if request.id_start is not None and request.start_merge_step is not None:
        raise invalid("id_start is given beside start_merge_step; give one of them", "id_start")
    if request.background == "transparent" and not config.service.compat:
        raise invalid("background='transparent' cannot be drawn; use opaque", "background")


def fields_of(form: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Form fields as a mapping; `name[]` and repeated names make a list.

    Raises:
        ApiError: a field that takes one value is given twice.
    """
    found: dict[str, Any] = {}
    for raw, value in form:
        name = raw.removesuffix("[]")
        if name in ("id_weights", "loras", *LISTS):
            found.setdefault(name, []).append(value)
        elif name in found:
            raise invalid(f"{name[:60]} is given twice", name[:60])
        else:
            found[name] = value
    return found


def _check_text(name: str, text: str, most: int, required: bool = False) -> None:
    if required and not text.strip():
        raise invalid(f"{name} is empty; write for example 'a man img wearing a red hoodie'", name)
    if len(text) > most:
        raise invalid(
            f"{name} has {len(text)} characters, at most {most} are read; shorten it", name, code="string_too_long"
        )
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise invalid(f"{name} has characters that are not text", name)


def _size(text: str, aspect: str | None) -> tuple[int | None, int | None]:
    """Width and height; whether they can be drawn is known to the engine, which knows the base."""
    if text == "auto":
        return None, None
    if aspect is not None:
        raise invalid(f"aspect={_shown(aspect)} is given beside size={_shown(text)}; give one of them", "aspect")
    match = re.fullmatch(r"\s*(\d{1,5})\s*[xX×*]\s*(\d{1,5})\s*", text, re.ASCII)
    if match is None:
        raise invalid(f"size={_shown(text)} must be WIDTHxHEIGHT in pixels, such as 64x64, or auto", "size")
    return int(match[1]), int(match[2])


def _notes(request: ImageRequest, model: str) -> tuple[str, ...]:
    """What of a request is taken for something else."""
    notes = []
    if request.model not in (None, model):
        notes.append(f"model={_shown(request.model)} stands for {model} here")
    if request.background == "transparent":
        notes.append("the background is opaque; a transparent one cannot be drawn")
    return tuple(notes)


def is_alias(name: str, service: ServiceConfig) -> bool:
    """Whether clients of other services mean their default model by this name."""
    return service.compat and any(fnmatch.fnmatchcase(name, pattern) for pattern in service.aliases)


def _model(name: str | None, photos: int, adapters: Mapping[str, str], service: ServiceConfig) -> str:
    if name is None or (name not in adapters and is_alias(name, service)):
        return next(iter(adapters)) if photos else BASE
    if name != BASE and name not in adapters:
        known = ", ".join([*adapters, BASE])
        raise ApiError(404, f"model {_shown(name)} is not here; use {known}", code="model_not_found", param="model")
    if name == BASE and photos:
        raise invalid(f"model {name!r} takes no photos; use {', '.join(adapters)}", "model")
    if name != BASE and not photos:
        raise invalid(f"model {name!r} needs photos of the person: send image[] to /v1/images/edits", "model")
    return name


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
