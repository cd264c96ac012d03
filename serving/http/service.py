"""What happens to a request, from its headers to its answer; every guard has its place here."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pm.errors import ConfigError
from serving.config import BASE, ServeConfig
from serving.errors import ApiError, invalid, overloaded
from serving.http.answers import EventStream, as_error_event, as_event, as_json, run
from serving.http.keys import ANONYMOUS, Key, KeyFile
from serving.http.photos import decode
from serving.http.pictures import Uploaded, picture_fields, sorted_out
from serving.http.quota import Quotas
from serving.http.schema import ImageRequest, fields_of, jobs, parse
from serving.http.upload import Budget, Upload
from serving.jobs import IDENTITY, Backend, Job, Photo
from serving.loras import LoraFolder
from serving.metrics import Recorder

# A child, so that its line of every request is seen where Serve's own are silenced.
logger = logging.getLogger("ray.serve.photomaker")
logger.setLevel(logging.INFO)
FAMILIES = {"edits": "image_edit", "variations": "image_edit", "generations": "image_generation"}
_ANYBODY = "a person"  # the prompt of a variation: the photo's person, with the class word alone


@dataclass
class Call:
    """One request, for its log line."""

    route: str
    request_id: str
    begin: float = field(default_factory=time.monotonic)
    key: str = "-"
    status: int = 499  # the client left, unless somebody says otherwise
    facts: dict[str, Any] = field(default_factory=dict)


class Service:
    """One ingress."""

    def __init__(
        self, config: ServeConfig, backend: Backend, recorder: Recorder, quotas: Quotas, keys: KeyFile | None
    ) -> None:
        self.config, self.limits, self.backend = config, config.limits, backend
        self.recorder, self.quotas, self.keys = recorder, quotas, keys
        self.adapters: Mapping[str, str] = config.adapters
        self.loras = LoraFolder(config.loras)
        self.in_flight = 0
        self.uploads = Budget(config.limits.in_flight_bytes)
        # One photo at a time, since a decoded 48-megapixel photo takes 144 MB; and always in the same thread, since
        # every thread's allocator keeps what its largest photo took.
        self._decoder = ThreadPoolExecutor(1, "photos")

    async def answer(self, request: Request, route: str) -> Response:
        """`route`: "edits", "variations" or "generations"."""
        return await self.handle(request, route, self._answer)

    async def handle(
        self, request: Request, route: str, work: Callable[[Request, Call, AsyncExitStack], Awaitable[Response]]
    ) -> Response:
        """Answer with `work`; whatever becomes of it is logged, counted and told in OpenAI's words."""
        call = Call(route, request_id_of(request))
        async with AsyncExitStack() as stack:
            stack.callback(self._finished, call)
            try:
                return await work(request, call, stack)
            except ApiError as error:
                return self._refuse(request, call, error)
            except Exception:
                logger.exception("request_id=%s broke", call.request_id)
                return self._refuse(request, call, _defect())

    async def _answer(self, request: Request, call: Call, stack: AsyncExitStack) -> Response:
        # Ours alone: Serve's own limit follows a header of the client.
        deadline = asyncio.get_running_loop().time() + self.limits.request_s
        headers = answer_headers(request, call.request_id)
        try:
            async with asyncio.timeout_at(deadline):
                key = self.authenticate(request)
                call.key = key[0]
                if self.in_flight >= self.limits.in_flight_images:
                    raise self.busy()
                wanted, todo, photos = await self._read(request, call, stack)
                await self._admit(key, call, len(todo), stack)
                events = run(self.backend, todo, self.backend.share(photos))
                stack.push_async_callback(events.aclose)
                if wanted.stream:
                    first = await anext(events)
                    call.status = 200
                    content = self._events(call, todo, first, events, deadline)
                    return EventStream(content, stack.pop_all(), headers)
                images: list[Any] = [None] * len(todo)
                async for index, event in events:
                    images[index] = event
                    self._made(call)
        except TimeoutError:
            raise self.timeout() from None
        call.status = 200
        return JSONResponse(as_json(wanted, todo, images), headers=headers)

    def authenticate(self, request: Request) -> tuple[str, Key | None]:
        """The key's name and its limits.

        Raises:
            ApiError: 401 without a key or with a wrong one.
        """
        if self.keys is None:
            return ANONYMOUS, None
        try:
            self.keys.refresh()
        except ConfigError as error:  # a file that is being edited: the keys that were read last stay in force
            logger.error("%s", error)
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        name = self.keys.find(secret.strip()) if scheme.lower() == "bearer" else None
        if name is None:
            problem = "this API key is not known" if secret else "no API key; send the header Authorization: Bearer KEY"
            raise ApiError(401, problem, code="invalid_api_key")
        if (why := self.keys.keys[name].problem(datetime.now(UTC))) is not None:
            raise ApiError(401, f"this API key {why}; ask for a new one", code="invalid_api_key")
        return name, self.keys.keys[name]

    async def _read(
        self, request: Request, call: Call, stack: AsyncExitStack
    ) -> tuple[ImageRequest, list[Job], list[Photo]]:
        upload = Upload(self.limits, self.uploads)
        stack.callback(upload.release)
        if call.route != "generations":
            await upload.read_form(request)
            fields = fields_of(upload.fields)
            if call.route == "variations":
                fields = {"prompt": _ANYBODY, **fields, "trigger": "auto"}
            wanted = parse(fields, self.config.service.compat)
            uploaded = sorted_out(upload.photos, upload.files, wanted.model == BASE)
        else:
            wanted, uploaded = parse(await upload.read_json(request), self.config.service.compat), []
        people = sum(picture.use == IDENTITY for picture in uploaded)
        names = {"request_id": call.request_id, "tenant": call.key}
        todo = jobs(wanted, people, self.config, self.adapters, self.loras.files(), **names)
        pictures = picture_fields(wanted, uploaded, self.config.controls, self.adapters)
        todo = [replace(job, **pictures) for job in todo]
        call.facts |= {"model": todo[0].model, "n": len(todo), "photos": people, "size": wanted.size}
        if self.config.log_prompts:
            call.facts["prompt"] = repr(wanted.prompt)
        photos = [await self.decoded(i, picture) for i, picture in enumerate(uploaded)]
        upload.hold(sum(photo.pixels.nbytes for photo in photos))
        return wanted, todo, photos

    async def decoded(self, index: int, picture: Uploaded) -> Photo:
        """One picture of a request, in the one thread that decodes.

        Raises:
            ApiError: as `serving.http.photos.decode`.
        """
        work = partial(decode, picture.data, self.limits, index, picture.name, picture.use)
        return await asyncio.get_running_loop().run_in_executor(self._decoder, work)

    async def _admit(self, key: tuple[str, Key | None], call: Call, images: int, stack: AsyncExitStack) -> None:
        """Places for all images of the request, or none."""
        name, limits = key
        if self.in_flight + images > self.limits.in_flight_images:
            raise self.busy()
        if limits is not None:
            most = min(limits.concurrent_images or images, limits.images_per_minute or images)
            if images > most:
                raise invalid(f"n={images} is out of range for this key; use up to {most:g}", "n")
            refused = await self.quotas.acquire(name, limits, call.request_id, images)
            if refused is not None:
                reason, wait = refused
                what = "images per minute" if reason == "key_rate" else "concurrent images"
                raise overloaded(f"this key has used up its {what}; try again in {wait:.0f} s", wait, reason)
            stack.push_async_callback(self.quotas.release, name, call.request_id)
        self.hold(images, stack)

    def hold(self, images: int, stack: AsyncExitStack) -> None:
        """Count images, or what costs as much, among those in flight.

        Raises:
            ApiError: there are too many.
        """
        if self.in_flight + images > self.limits.in_flight_images:
            raise self.busy()
        self._count(images)
        stack.callback(self._count, -images)

    async def _events(
        self,
        call: Call,
        todo: list[Job],
        first: tuple[int, dict[str, Any]],
        events: AsyncGenerator[tuple[int, dict[str, Any]], None],
        deadline: float,
    ) -> AsyncGenerator[bytes, None]:
        family = FAMILIES[call.route]
        try:
            async with asyncio.timeout_at(deadline):
                index, event = first
                while True:
                    if event["type"] == "image":
                        self._made(call)
                    yield as_event(family, todo, index, event)
                    try:
                        index, event = await anext(events)
                    except StopAsyncIteration:
                        return
        except ApiError as error:
            failed = error
        except TimeoutError:
            failed = self.timeout()
        except Exception:
            logger.exception("request_id=%s broke", call.request_id)
            failed = _defect()
        self._reject(call, failed)
        yield as_error_event(failed)

    def _refuse(self, request: Request, call: Call, error: ApiError) -> Response:
        self._reject(call, error)
        headers = error.headers() | answer_headers(request, call.request_id)
        return JSONResponse(error.body(), error.status, headers=headers)

    def _reject(self, call: Call, error: ApiError) -> None:
        call.status = error.status
        call.facts["reason"] = error.reason
        self.recorder.record("pm_rejects_total", reason=error.reason)

    def busy(self) -> ApiError:
        return overloaded("the service is busy; try again", self.limits.retry_after_s, "in_flight_images")

    def timeout(self) -> ApiError:
        return ApiError(504, f"not finished within {self.limits.request_s:g} s; it was given up", code="timeout")

    def beat(self) -> None:
        """Say again what is in flight: Ray forgets a gauge that it has reported."""
        self._count(0)

    def _count(self, images: int) -> None:
        self.in_flight += images
        self.recorder.record("pm_in_flight_images", self.in_flight)

    def _made(self, call: Call) -> None:
        self.recorder.record("pm_image_seconds", time.monotonic() - call.begin, route=call.route)

    def _finished(self, call: Call) -> None:
        """The log line: who, what, how long; no photo, and no prompt unless that was asked for."""
        self.recorder.record("pm_requests_total", route=call.route, status=str(call.status))
        facts = " ".join(f"{name}={value}" for name, value in call.facts.items())
        logger.info(
            "request_id=%s key=%s route=%s status=%d seconds=%.3f %s",
            *(call.request_id, call.key, call.route, call.status, time.monotonic() - call.begin, facts),
        )


def request_id_of(request: Request) -> str:
    """The client's, if it can stand in a log; else a new one."""
    given = request.headers.get("x-request-id", "")
    return given if re.fullmatch(r"[\w.:-]{1,64}", given, re.ASCII) else secrets.token_hex(8)


def answer_headers(request: Request, request_id: str) -> dict[str, str]:
    """Serve's proxy names every request, and repeats the name in the answer; without a proxy that is for us to do."""
    return {} if "x-request-id" in request.headers else {"x-request-id": request_id}


def _defect() -> ApiError:
    return ApiError(500, "this is our fault; the server's log says more under the request's id", code="internal_error")
