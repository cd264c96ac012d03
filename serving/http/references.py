"""`/v1/images/references`: what a model would see of photos, before anything is generated."""

import asyncio
import base64
from contextlib import AsyncExitStack
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.config import BASE
from serving.errors import ApiError, invalid
from serving.http.pictures import Uploaded
from serving.http.schema import fields_of
from serving.http.service import Call, Service, answer_headers
from serving.http.upload import Upload
from serving.jobs import IDENTITY, Look, Photo


class LookRequest(BaseModel):
    """The fields beside `image[]`."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="A name from /v1/models; default: the first adapter.")
    preprocess: Literal["auto", "none", "photo", "drawing"] | None = Field(None, description="As in /v1/images/edits.")
    pick: Literal["largest", "left", "middle", "right"] | None = Field(None, description="As in /v1/images/edits.")


async def references(service: Service, request: Request) -> Response:
    """A photo that cannot be used is an entry that says why, and no error: the others are still shown."""

    async def work(request: Request, call: Call, stack: AsyncExitStack) -> Response:
        try:
            async with asyncio.timeout(service.limits.request_s):
                return await _work(service, request, call, stack)
        except TimeoutError:
            raise service.timeout() from None

    return await service.handle(request, "references", work)


async def _work(service: Service, request: Request, call: Call, stack: AsyncExitStack) -> Response:
    call.key, _ = service.authenticate(request)
    service.hold(1, stack)
    upload = Upload(service.limits, service.uploads)
    stack.callback(upload.release)
    await upload.read_form(request)
    wanted = _parse(fields_of(upload.fields))
    if not upload.photos:
        raise invalid("no photo; send photos of the person as image[]", "image", code="missing_required_parameter")
    names = service.adapters
    model = next(iter(names)) if wanted.model is None else wanted.model
    if model not in names:
        problem = f"model {model[:60]!r} is not here; use {', '.join(names)}"
        raise ApiError(404, problem, code="model_not_found", param="model")
    call.facts |= {"model": model, "photos": len(upload.photos)}
    found: list[dict[str, Any]] = []
    photos: list[tuple[int, Photo]] = []
    for i, data in enumerate(upload.photos):
        try:
            photos.append((i, await service.decoded(i, Uploaded(IDENTITY, f"image[{i}]", data))))
        except ApiError as error:
            found.append({"index": i, "usable": False, "reason": error.message, "way_out": None})
    upload.hold(sum(photo.pixels.nbytes for _, photo in photos))
    config = service.config
    look = Look(call.request_id, model, wanted.preprocess or config.preprocess, wanted.pick or config.pick)
    shown = await service.backend.look(look, service.backend.share([photo for _, photo in photos])) if photos else []
    found += [{"index": i} | _encoded(entry) for (i, _), entry in zip(photos, shown, strict=True)]
    call.status = 200
    ordered = sorted(found, key=lambda entry: entry["index"])
    return JSONResponse({"object": "list", "data": ordered}, headers=answer_headers(request, call.request_id))


def _parse(fields: dict[str, Any]) -> LookRequest:
    if fields.get("model") == BASE:
        raise invalid(f"model {BASE!r} takes no photos", "model")
    try:
        return LookRequest.model_validate({name: value for name, value in fields.items() if value != ""})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name = str(first["loc"][0])
        raise invalid(f"{name[:60]}: {first['msg']}; known are {', '.join(LookRequest.model_fields)}", name) from None


def _encoded(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        key: base64.b64encode(value).decode() if isinstance(value, bytes) else value for key, value in entry.items()
    }
