"""From an engine's events to what goes over the wire: JSON, or server-sent events."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from serving.errors import ApiError, invalid
from serving.http.schema import ImageRequest
from serving.jobs import Backend, Job

# OpenAI's clients read token counts of a finished stream; images here have none.
_USAGE = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
}


async def run(backend: Backend, jobs: Sequence[Job], photos: Any) -> AsyncGenerator[tuple[int, dict[str, Any]], None]:
    """All images of a request at once; events as they come, with the number of their image.

    Closing the iterator gives up what is not finished.

    Raises:
        ApiError: one image failed; the others are given up.
    """
    events: asyncio.Queue = asyncio.Queue()

    async def one(index: int, job: Job) -> None:
        try:
            async with aclosing(backend.generate(job, photos)) as stream:
                async for event in stream:
                    events.put_nowait((index, event))
                    if event["type"] in ("image", "error"):
                        return
            raise ApiError(500, "the engine ended without an image", code="generation_failed")
        except Exception as error:
            events.put_nowait((index, error))

    tasks = [asyncio.create_task(one(i, job)) for i, job in enumerate(jobs)]
    try:
        left = len(jobs)
        while left:
            index, event = await events.get()
            if isinstance(event, Exception):
                raise event
            if event["type"] == "error":
                raise _failure(event)
            left -= event["type"] == "image"
            yield index, event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def as_json(request: ImageRequest, jobs: Sequence[Job], images: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """OpenAI's `ImagesResponse`; each image also names its seed, and has notes where there is something to say."""
    data = []
    for job, image in zip(jobs, images, strict=True):
        text = base64.b64encode(image["file"]).decode()
        url = f"data:image/{job.format};base64,{text}"
        where = {"b64_json": text} if request.response_format == "b64_json" else {"url": url}
        data.append(where | {"seed": job.seed} | _said(image))
    return {
        "created": int(time.time()),
        "data": data,
        "background": "opaque",
        "output_format": request.output_format,
        "size": "{}x{}".format(*images[0]["size"]),
    }


def as_event(family: str, jobs: Sequence[Job], index: int, event: dict[str, Any]) -> bytes:
    """One server-sent event. `family`: "image_edit" or "image_generation"."""
    if event["type"] in ("queued", "progress"):
        return _sse(
            f"{family}.{event['type']}", {k: v for k, v in event.items() if k != "type"} | {"image_index": index}
        )
    content = {
        "b64_json": base64.b64encode(event["file"]).decode(),
        "created_at": int(time.time()),
        "size": "{}x{}".format(*event["size"]),
        "quality": "auto",
        "background": "opaque",
        "output_format": jobs[index].format,
        "image_index": index,
        "seed": jobs[index].seed,
    }
    if event["type"] == "preview":
        return _sse(f"{family}.partial_image", content | {"partial_image_index": event["index"]})
    return _sse(f"{family}.completed", content | {"usage": _USAGE} | _said(event))


def as_error_event(error: ApiError) -> bytes:
    """The last event of a stream that fails after it has begun."""
    return _sse("error", error.body())


class EventStream(StreamingResponse):
    """Server-sent events that let go of everything the request holds, also when the client left before the first."""

    def __init__(self, content: AsyncGenerator[bytes, None], stack: AsyncExitStack, headers: dict[str, str]) -> None:
        headers = headers | {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self.content, self.stack = content, stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self.stack, aclosing(self.content):
            await super().__call__(scope, receive, send)


def _said(image: dict[str, Any]) -> dict[str, Any]:
    """What the client should know: photos left out, another size, a trigger word put in; and the prompt as it was read.

    `revised_prompt` is OpenAI's name for a prompt that was changed.
    """
    notes = {"notes": list(image["notes"])} if image.get("notes") else {}
    return notes | ({"revised_prompt": image["revised_prompt"]} if image.get("revised_prompt") else {})


def _sse(kind: str, content: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **content})}\n\n".encode()


def _failure(event: dict[str, Any]) -> ApiError:
    if event["kind"] == "invalid":
        return invalid(event["message"])
    return ApiError(500, f"the image could not be made: {event['message']}", code="generation_failed")
