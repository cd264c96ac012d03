"""Requests to the images API, most of them wrong in some way; number i of a seed is always the same.

Valid requests are mutated at every level: fields and their values, photos, the bytes of the body, how it is cut into
chunks, headers, method, path and query; and some clients leave half-way.
"""

import io
import json
import random
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from PIL import Image

from serving.http.pictures import FILES
from serving.http.schema import ImageRequest

BOUNDARY = "x7yB0undary"
PROMPT = "a man img in a red shirt"
PATHS = ("/v1/images/edits", "/v1/images/generations", "/v1/images/variations", "/v1/images/references")
READS = (
    "/v1/models",
    "/v1/models/base",
    "/v1/models/a",
    "/v1/loras",
    "/v1/capabilities",
    "/healthz",
    "/readyz",
    "/docs",
    "/openapi.json",
    "/studio",
)
# Text that means something elsewhere: numbers at their ends, other types, other scripts, other languages' syntax.
ODD = (
    "", " ", "0", "-1", "1", "2", "0.5", "1e400", "-1e400", "nan", "inf", "1e-320", "9" * 40, str(2**63), str(2**31),
    "true", "false", "null", "None", "[]", "{}", "[1]", "[[1]]", '{"a": 1}', '{"a": "b"}', "1,2", "1,", ",", "a:1",
    "a:", ":", "a:1,a:2", "a:nan", "64x64", "32x32", "32X32", "32x", "x", "0x0", "1x100000", "-32x-32", "٣x٣",
    "3:4", "0:0",
    "auto", "png", "jpeg", "webp", "url", "b64_json", "largest", "photo", "drawing", "explicit", "full", "required",
    "a", "b", "base", "gpt-image-1", "man", "woman", "img", "a man img", "(a man img:1.2)", "((((", "))))", "[[",
    "a man img BREAK a dog", "\\(", "a (man img:1e9)", "man img " * 40, "\x00", "\x1b[2J", "a\r\nb",
    "\ufeff", "‮", "🙂" * 50,
    "ﷺ" * 20, "é", "Ａ", "../../etc/passwd", "file:///etc/passwd", "http://169.254.169.254/", "<svg/>", "%00",
    "${jndi}",
    "x" * 999, "x" * 1001, "x" * 70000, "{class_word} {trigger}", "unipc", "lcm", "lightning4", "euler", "ddim",
)  # fmt: skip
_JSON = (None, True, False, 0, -1, 1, 2**70, 1.5, 1e308, "", "a", [], [1], [[[]]], {}, {"a": 1}, {"a": {"b": []}}, "1")


@dataclass
class Sent:
    """One request as it goes over the wire."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    chunks: list[bytes]
    leaves: bool = False  # the client is gone after the last chunk
    told: list[str] = field(default_factory=list)  # what was done to it

    @property
    def valid(self) -> bool:
        return not self.told


def request(seed: int, number: int, wrong: float = 0.9) -> Sent:
    """Request `number` of a seed.

    Args:
        seed: of the whole sequence.
        number: from 0.
        wrong: share of requests that are mutated.
    """
    rng = random.Random(f"{seed}:{number}")
    reads = rng.random() < 0.08
    sent = Sent("GET", rng.choice(READS), b"", [], []) if reads else _write(rng, rng.random() < wrong)
    if rng.random() < wrong:
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            rng.choice(_MUTATIONS)(rng, sent)
    _cut(rng, sent)
    return sent


def _write(rng: random.Random, wrong: bool) -> Sent:
    path = rng.choices(PATHS, (5, 2, 1, 1))[0]
    told: list[str] = []
    fields: list[tuple[str, object]] = [] if path == PATHS[3] else [("seed", rng.randrange(1000))]
    if path in PATHS[:2]:
        fields.append(("prompt", PROMPT if path == PATHS[0] else "a man in a red shirt"))
    if wrong:
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            _odd_field(rng, fields, told, text=path != PATHS[1])
    if path == PATHS[1]:
        return _json(path, fields, told)
    files = [("image[]", _photo(rng.randrange(3)))]
    if wrong and rng.random() < 0.4:
        _odd_files(rng, files, told)
    return _form(path, fields, files, told)


def _odd_field(rng: random.Random, fields: list[tuple[str, object]], told: list[str], text: bool) -> None:
    names = [*ImageRequest.model_fields, "num_inference_steps", "strength", "x" * rng.choice((1, 100, 5000)), "", "ﬁ"]
    name = rng.choice(names)
    value = rng.choice(ODD) if text or rng.random() < 0.5 else rng.choice(_JSON)
    if name == "steps" and rng.random() < 0.7:
        value = str(rng.randrange(1, 4))
    if rng.random() < 0.1 and fields:
        told.append(f"without {fields.pop(rng.randrange(len(fields)))[0]}")
    if rng.random() < 0.8:
        fields[:] = [(key, old) for key, old in fields if key != name]
    fields.append((name, value))
    told.append(f"{name[:20]}={str(value)[:30]!r}")


def _odd_files(rng: random.Random, files: list[tuple[str, bytes]], told: list[str]) -> None:
    kind = rng.choice(("none", "many", "name", "other", "cut", "flipped", "empty", "text", "large", "mode"))
    told.append(f"photos: {kind}")
    if kind == "none":
        files.clear()
    elif kind == "many":
        files *= rng.choice((2, 3, 17))
    elif kind == "name":
        files[0] = (rng.choice(("image", "image[0]", "image[9999]", "image[-1]", "image[]", "photo", "")), files[0][1])
    elif kind == "other":
        files.append((rng.choice([*FILES, *(f"{name}[]" for name in FILES)]), _photo(rng.randrange(3))))
    elif kind == "mode":
        files[0] = ("image[]", _odd_photo(rng.randrange(6)))
    elif kind == "large":
        files[0] = ("image[]", _bomb())
    else:
        data = bytearray(files[0][1])
        if kind == "cut":
            data = data[: rng.randrange(len(data))]
        elif kind == "flipped":
            for _ in range(rng.randrange(1, 20)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        else:
            data = bytearray(b"" if kind == "empty" else b"<svg xmlns='http://www.w3.org/2000/svg'/>")
        files[0] = ("image[]", bytes(data))


def _form(path: str, fields: list[tuple[str, object]], files: list[tuple[str, bytes]], told: list[str]) -> Sent:
    body = b""
    for name, value in fields:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        body += head.encode("utf-8", "surrogatepass")
    for name, data in files:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="a.png"\r\n\r\n'
        body += head.encode() + data + b"\r\n"
    body += f"--{BOUNDARY}--\r\n".encode()
    kind = f"multipart/form-data; boundary={BOUNDARY}".encode()
    return Sent("POST", path, b"", [(b"content-type", kind)], [body], told=told)


def _json(path: str, fields: list[tuple[str, object]], told: list[str]) -> Sent:
    body = json.dumps(dict(fields)).encode()
    return Sent("POST", path, b"", [(b"content-type", b"application/json")], [body], told=told)


def _bytes(rng: random.Random, sent: Sent) -> None:
    data = bytearray(b"".join(sent.chunks))
    sent.told.append("bytes of the body")
    if not data:
        return
    for _ in range(rng.choice((1, 1, 3, 30))):
        at = rng.randrange(len(data) or 1)
        how = rng.randrange(4)
        if how == 0 and data:
            data[at] = rng.randrange(256)
        elif how == 1:
            del data[at : at + rng.choice((1, 2, 100, 5000))]
        elif how == 2:
            data[at:at] = rng.randbytes(rng.choice((1, 3, 200)))
        else:
            data[at:at] = data[at : at + rng.choice((1, 50, 2000))]
        if not data:
            break
    sent.chunks = [bytes(data)]


def _headers(rng: random.Random, sent: Sent) -> None:
    name = rng.choice((b"content-type", b"content-length", b"authorization", b"x-request-id", b"accept", b"host",
                       b"x-request-timeout-seconds", b"transfer-encoding", b"expect", b"content-encoding"))  # fmt: skip
    kinds = (b"", b"application/json", b"multipart/form-data", b"multipart/form-data; boundary=", b"text/plain",
             b"\xff", b"multipart/form-data; boundary=" + b"y" * 300, b"application/json; charset=utf-16", b"-1",
             b"0", b"1e9", b"99999999999999", b"Bearer x",
             b"Bearer \xc3\xa9", b"gzip", b"a" * 4000, b"\x01\x02", b"*/*")  # fmt: skip
    value = rng.choice(kinds)
    sent.told.append(f"header {name.decode()}")
    if rng.random() < 0.7:
        sent.headers = [(key, old) for key, old in sent.headers if key != name]
    sent.headers.append((name, value))


def _route(rng: random.Random, sent: Sent) -> None:
    how = rng.randrange(4)
    sent.told.append(("method", "path", "query", "path")[how])
    if how == 0:
        sent.method = rng.choice(("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "POST", "TRACE", "QUERY"))
    elif how == 2:
        sent.query = rng.choice((b"a=1", b"%", b"\xff", b"prompt=x&" * 300, b"=&=&", b"stream=true"))
    else:
        odd = ("", "/", "//", "/v1", "/v1/models/" + "x" * 3000, "/v1/models/%2e%2e/", "/v1/images/edits/", "/\x00",
               "/é", "/v1/models/é/🙂", "/v1/images/edits%00", "/docs/../docs", "/static/../../etc/passwd")  # fmt: skip
        sent.path = rng.choice(odd)


def _leave(rng: random.Random, sent: Sent) -> None:
    whole = b"".join(sent.chunks)
    sent.told.append("leaves")
    sent.leaves, sent.chunks = True, [whole[: rng.randrange(len(whole) + 1)]]


_MUTATIONS = (_bytes, _bytes, _headers, _route, _leave)


def _cut(rng: random.Random, sent: Sent) -> None:
    """Another division into chunks; an empty one does no harm."""
    whole = b"".join(sent.chunks)
    if rng.random() < 0.5 or len(whole) < 2:
        sent.chunks = [whole]
        return
    places = sorted(rng.randrange(len(whole)) for _ in range(rng.choice((1, 3, 20))))
    sent.chunks = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]


@cache
def _photo(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    return _file(Image.fromarray(pixels), ("PNG", "JPEG", "WEBP")[number])


@cache
def _odd_photo(number: int) -> bytes:
    mode = ("1", "L", "LA", "P", "CMYK", "I;16")[number]
    picture = Image.new("I;16", (9, 7), 30000) if mode == "I;16" else Image.new("RGB", (9, 7), "teal").convert(mode)
    return _file(picture, "JPEG" if mode == "CMYK" else "PNG")


@cache
def _bomb() -> bytes:
    """Small as a file, and more pixels than a request may have."""
    return _file(Image.new("1", (9000, 9000)), "PNG")


def _file(picture: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind)
    return stream.getvalue()
