"""Bodies, read within limits: what is too much is refused while it arrives, not after."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from serving.config import LimitsConfig
from serving.errors import ApiError, invalid, overloaded
from serving.http.pictures import FILES

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_FIELD_BYTES, _FIELDS = 64 * 1024, 64
_JSON_BYTES = 1024 * 1024
_PHOTO = re.compile(r"image(?:\[(\d{0,4})\])?", re.ASCII)  # image, image[], image[0], image[1], ...


class Budget:
    """Bytes of all bodies that are held at once."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0


@dataclass
class Upload:
    """A body on its way. `release` gives its bytes back to the budget."""

    limits: LimitsConfig
    budget: Budget
    fields: list[tuple[str, str]] = field(default_factory=list)
    photos: list[bytes] = field(default_factory=list)
    files: dict[str, list[bytes]] = field(default_factory=dict)  # of the other fields of `serving.http.pictures.FILES`
    size: int = 0

    def release(self) -> None:
        self.budget.used -= self.size
        self.size = 0
        self.photos, self.files = [], {}

    def hold(self, size: int) -> None:
        """From now on this many bytes are held, in place of the body.

        Raises:
            ApiError: there is no room for them.
        """
        self.release()
        if self.budget.used + size > self.budget.limit:
            raise overloaded("too many photos at once; try again", self.limits.retry_after_s, "upload_memory")
        self.size = size
        self.budget.used += size

    async def read_form(self, request: Request) -> None:
        """Read `multipart/form-data`: fields, photos (`image`, `image[]`, `image[0]`, ...), and the other pictures.

        Raises:
            ApiError: another content type, malformed, too large, too many photos, or too slow.
        """
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise _wrong_type(kind, "multipart/form-data with a boundary")
        parts = _Parts(self)
        try:
            parser = MultipartParser(options[b"boundary"], parts.callbacks())
            async with aclosing(self._chunks(request, self.limits.body_bytes)) as chunks:
                async for chunk in chunks:
                    parser.write(chunk)
        except FormParserError as error:
            raise invalid(f"the multipart body is malformed ({error})", code="invalid_body") from None
        if not parts.ended:
            raise invalid("the multipart body ends before its last boundary", code="invalid_body")
        self.photos = [photo for _, photo in sorted(zip(parts.places, self.photos, strict=True), key=lambda p: p[0])]

    async def read_json(self, request: Request) -> dict[str, Any]:
        """Read a JSON object.

        Raises:
            ApiError: another content type, not JSON, too large, or too slow.
        """
        kind, _ = parse_options_header(request.headers.get("content-type", ""))
        if kind != b"application/json":
            raise _wrong_type(kind, "application/json; photos go to /v1/images/edits as multipart/form-data")
        data = bytearray()
        async with aclosing(self._chunks(request, min(_JSON_BYTES, self.limits.body_bytes))) as chunks:
            async for chunk in chunks:
                data += chunk
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            raise invalid("the body is not JSON", code="invalid_body") from None
        if not isinstance(found, dict):
            raise invalid("the body is not a JSON object", code="invalid_body")
        return found

    async def _chunks(self, request: Request, most: int) -> AsyncGenerator[bytes, None]:
        told = request.headers.get("content-length", "")
        if told.isdigit() and int(told) > most:
            raise _too_large("the body", most)
        try:
            async with asyncio.timeout(self.limits.body_s):
                async for chunk in request.stream():
                    self._take(len(chunk), most)
                    yield chunk
        except TimeoutError:
            raise ApiError(
                408, f"the body did not arrive within {self.limits.body_s:g} s", code="request_timeout"
            ) from None
        except ClientDisconnect:
            raise ApiError(499, "the client left", code="client_closed_request") from None

    def _take(self, count: int, most: int) -> None:
        if self.size + count > most:
            raise _too_large("the body", most)
        if self.budget.used + count > self.budget.limit:
            raise overloaded("too many uploads at once; try again", self.limits.retry_after_s, "upload_memory")
        self.size += count
        self.budget.used += count


class _Parts:
    """Callbacks of the parser for one body."""

    def __init__(self, upload: Upload) -> None:
        self.upload, self.ended = upload, False
        self.places: list[int] = []  # of the photos, where their fields are numbered
        self._header, self._value = bytearray(), bytearray()
        self._begin()

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._name, self._file, self._photo, self._content = "", "", False, bytearray()
        self._chosen, self._place = True, 0

    def _header_end(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._name = options.get(b"name", b"").decode("utf-8", "replace")[:200]
            self._chosen = options.get(b"filename") != b""  # a form's file field that nobody filled in
        self._header.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        limits = self.upload.limits
        # A file name is never looked at: nothing of a client's becomes a path.
        numbered = _PHOTO.fullmatch(self._name)
        self._file = re.sub(r"\[\d{0,4}\]$", "", self._name, flags=re.ASCII)
        self._photo, self._place = numbered is not None or self._file in FILES, int((numbered and numbered[1]) or 0)
        if self._name == "markup":
            raise invalid("markup is not supported; send a mask of what shall be drawn anew", "markup")
        if numbered and len(self.upload.photos) == limits.photos:
            raise invalid(
                f"more than {limits.photos} photos; send 1 to {limits.photos}", "image", code="too_many_images"
            )
        most = FILES[self._file][0] if self._file in FILES else 0
        if most and len(self.upload.files.get(self._file, ())) == most:
            raise invalid(f"more than {most} {self._file}; send up to {most}", self._file, code="too_many_images")
        if not self._photo and len(self.upload.fields) == _FIELDS:
            raise invalid(f"more than {_FIELDS} fields", code="invalid_body")

    def _data(self, data: bytes, start: int, end: int) -> None:
        most = self.upload.limits.photo_bytes if self._photo else _FIELD_BYTES
        if len(self._content) + end - start > most:
            photo = self._photo and self._file not in FILES
            name = f"image[{len(self.upload.photos)}]" if photo else f"field {self._name[:60]!r}"
            raise _too_large(name, most, "image" if photo else self._name[:60])
        self._content += data[start:end]

    def _end(self) -> None:
        if self._file in FILES:
            if self._content:  # clients send empty fields for what is not set
                self.upload.files.setdefault(self._file, []).append(bytes(self._content))
            return
        if self._photo:
            if self._content or self._chosen:
                self.upload.photos.append(bytes(self._content))
                self.places.append(self._place)
            return
        try:
            self.upload.fields.append((self._name, self._content.decode("utf-8")))
        except UnicodeDecodeError:
            problem = f"field {self._name[:60]!r} is not UTF-8 text; photos go under image[]"
            raise invalid(problem, self._name[:60]) from None

    def _finish(self) -> None:
        self.ended = True


def _too_large(what: str, most: int, param: str | None = None) -> ApiError:
    return ApiError(413, f"{what} is larger than {most} bytes", code="body_too_large", param=param)


def _wrong_type(kind: bytes, wanted: str) -> ApiError:
    shown = kind.decode("latin-1")[:60] or "missing"
    return ApiError(415, f"content type is {shown}; send {wanted}", code="unsupported_media_type")
