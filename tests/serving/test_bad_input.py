"""Everything a client can get wrong, against the whole application and a real engine: a 4xx that helps, in bounded
time, and nothing kept."""

import asyncio
import json
import logging

import psutil
import pytest
from starlette.requests import Request
from support.api import PROMPT, photo

from benchmarks.soak.asgi import ask, storm
from benchmarks.soak.mutate import Sent, request
from serving.errors import ApiError
from serving.http.keys import Key, KeyFile, hash_key, write_keys
from serving.http.routes import create_app
from serving.http.service import request_id_of

EDITS, GENERATIONS = "/v1/images/edits", "/v1/images/generations"
PART = b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n'
_TEXT = PART % b"prompt" + b"a man img\r\n"
GOOD = {"prompt": PROMPT, "seed": "1"}


def files(*contents: bytes) -> list:
    return [("image[]", ("../../etc/passwd", content, "image/png")) for content in contents]


PHOTO = photo()


def edit(client, photos=(PHOTO,), **fields):
    data = {k: v for k, v in (GOOD | fields).items() if v is not None}
    return client.post(EDITS, data=data, files=files(*photos))


BAD = {
    "no image": (dict(photos=()), 415, "multipart"),
    "17 images": (dict(photos=[photo()] * 17), 400, "1 to 16"),
    "svg": (dict(photos=[b"<svg/>"]), 400, "SVG"),
    "truncated": (dict(photos=[photo()[:-100]]), 400, "cut short"),
    "a signature alone": (dict(photos=[photo()[:8]]), 400, "cut short (no header)"),
    "no class word": (dict(prompt="img in a red shirt"), 400, "class word"),
    "too strong a person": (dict(prompt="a (man img:2)"), 400, "use 0 to 1.5"),
    "weight out of range": (dict(prompt="a man img in a (red:11) shirt"), 400, "out of range 0 to 10"),
    "no trigger": (dict(prompt="a man in a red shirt"), 400, "trigger word"),
    "two triggers": (dict(prompt="a man img and a woman img"), 400, "2 times"),
    "5,000 characters": (dict(prompt="a man img " + "x" * 5000), 400, "at most 1000"),
    "no prompt": (dict(prompt=None), 400, "prompt is missing"),
    "empty prompt": (dict(prompt="  "), 400, "prompt is empty"),
    "no text": (dict(prompt="a man img \0"), 400, "not text"),
    "n=0": (dict(n="0"), 400, "1 to 10"),
    "n=1000": (dict(n="1000"), 400, "1 to 10"),
    "n=two": (dict(n="two"), 400, "n='two'"),
    "size=7x7": (dict(size="7x7"), 400, "multiple of"),
    "aspect=3:0": (dict(aspect="3:0"), 400, "no ratio"),
    "aspect and size": (dict(aspect="3:4", size="64x64"), 400, "given beside size"),
    "size=large": (dict(size="large"), 400, "WIDTHxHEIGHT"),
    "size=8000x8000": (dict(size="8000x8000"), 400, "out of range: this base draws 32 x 32 pixels; use up to 64 along"),
    "size=0x0": (dict(size="0x0"), 400, "multiple of"),
    "NaN weight": (dict(id_weights="nan"), 400, "out of range"),
    "negative weight": (dict(id_weights="-1"), 400, "out of range"),
    "two weights for one photo": (dict(id_weights="1,1"), 400, "one for each"),
    "NaN guidance": (dict(guidance_scale="nan"), 400, "guidance_scale"),
    "merge step -2": (dict(start_merge_step="-2"), 400, "start_merge_step"),
    "no steps": (dict(steps="0"), 400, "steps"),
    "too many steps": (dict(steps="100000"), 400, "1 to 100"),
    "negative seed": (dict(seed="-1"), 400, "seed"),
    "unknown model": (dict(model="dall-e"), 404, "use a, b, base"),
    "photos for the base": (dict(model="base"), 400, "takes no photos"),
    "misspelt field": (dict(guidance="3"), 400, "guidance_scale"),
    "previews without stream": (dict(partial_images="1"), 400, "stream"),
    "unknown sampler": (dict(sampler="lightening4"), 400, "did you mean 'lightning4'"),
    "a sampler without its LoRA": (dict(sampler="lightning4"), 404, "lora 'sdxl_lightning_4step_lora' is not here"),
    "guidance ends before it starts": (dict(guidance_start="0.8", guidance_end="0.2"), 400, "guidance_start=0.8"),
    "guidance from 2 on": (dict(guidance_start="2"), 400, "guidance_start"),
    "eta for a schedule without": (dict(sampler="unipc", eta="0.5", steps="4"), 400, "unipc takes none"),
    "four previews": (dict(partial_images="4", stream="true"), 400, "partial_images"),
    "gif wanted": (dict(output_format="gif"), 400, "output_format"),
    "compression 101": (dict(output_format="jpeg", output_compression="101"), 400, "output_compression"),
    "transparent": (dict(background="transparent"), 400, "cannot be drawn"),
    "empty field": (dict(n=""), 400, "n=''"),
    "OpenAI's model": (dict(model="gpt-image-1"), 404, "use a, b, base"),
    "any size": (dict(size="1024x1024"), 400, "out of range"),
    "strength 2": (dict(id_strength="2"), 400, "id_strength"),
    "both starts": (dict(id_start="0.5", start_merge_step="1"), 400, "give one of them"),
    "end before start": (dict(id_start="0.5", id_end="0.2"), 400, "id_end=0.2"),
    "scale for PhotoMaker": (dict(scale="0.5"), 400, "image prompt"),
    "weights that are none": (dict(id_weights="[1"), 400, "is no list; write 1,0.5 or"),
    "weights of words": (dict(id_weights='["a"]'), 400, "id_weights"),
    "diffusers' steps": (dict(num_inference_steps="9"), 400, "here it is 'steps'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_edits(make_client, name):
    arguments, status, fragment = BAD[name]
    asyncio.run(_refused(make_client(), arguments, status, fragment))


async def _refused(client, arguments, status, fragment):
    async with client:
        answer = await edit(client, **arguments)
        error = answer.json()["error"]
        assert (answer.status_code, set(error)) == (status, {"message", "type", "param", "code"}), error
        assert fragment in error["message"] and error["type"] == "invalid_request_error"
        assert answer.headers["x-request-id"]
    _nothing_kept(client.service)


def _nothing_kept(service):
    assert service.in_flight == 0 and service.uploads.used == 0
    assert not service.backend.engine.batcher._rows


@pytest.mark.parametrize(
    "kind, body, status, fragment",
    [
        ("application/json", b"{}", 415, "multipart/form-data"),
        ("text/plain", b"hello", 415, "text/plain"),
        ("", b"", 415, "missing"),
        ("multipart/form-data", b"", 415, "boundary"),
        ("multipart/form-data; boundary=x", b"", 400, "ends before"),
        ("multipart/form-data; boundary=x", PART % b"prompt" + b"a man img\r\n--x--", 400, "no photo"),
        (
            "multipart/form-data; boundary=x",
            _TEXT + PART % b"mask" + b"m\r\n--x--",
            400,
            "mask is given without a picture",
        ),
        ("multipart/form-data; boundary=x", _TEXT + PART % b"markup" + b"m\r\n--x--", 400, "send a mask"),
        ("multipart/form-data; boundary=x", (PART % b"n" + b"1\r\n") * 2 + b"--x--", 400, "twice"),
        ("multipart/form-data; boundary=x", b"--y\r\n", 400, "malformed"),
        ("multipart/form-data; boundary=x", b"--x\r\nno colon\r\n\r\n", 400, "malformed"),
        ("multipart/form-data; boundary=x", PART % b"n" + b"\xff\r\n--x--", 400, "UTF-8"),
    ],
)
def test_bad_bodies_of_edits(make_client, kind, body, status, fragment):
    async def go():
        async with make_client() as client:
            answer = await client.post(EDITS, content=body, headers={"content-type": kind})
            assert (answer.status_code, fragment in answer.json()["error"]["message"]) == (status, True), answer.text
        _nothing_kept(client.service)

    asyncio.run(go())


@pytest.mark.parametrize(
    "body, status, fragment",
    [
        (b"", 400, "not JSON"),
        (b"[1]", 400, "object"),
        (b"[" * 100_000, 400, "not JSON"),
        (b'{"prompt": 3}', 400, "prompt=3"),
        (b'{"prompt": "a man", "\\ud800": 1}', 400, "unknown parameter"),
        (b'{"prompt": "a man", "image": "http://169.254.169.254/"}', 400, "unknown parameter 'image'"),
        (b'{"prompt": "a man", "model": "a"}', 400, "/v1/images/edits"),
        (b'{"prompt": "' + b"x" * 2_000_000 + b'"}', 413, "larger than"),
    ],
)
def test_bad_bodies_of_generations(make_client, body, status, fragment):
    async def go():
        async with make_client() as client:
            answer = await client.post(GENERATIONS, content=body, headers={"content-type": "application/json"})
            assert (answer.status_code, fragment in answer.json()["error"]["message"]) == (status, True), answer.text

    asyncio.run(go())


def test_large_bodies_are_refused_while_they_arrive_and_memory_does_not_grow(make_client):
    """A photo of 40 MB in chunks without a length, and one that announces itself."""
    sent = 0

    async def chunks(total: int):
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="image[]"; filename="a"\r\n\r\n'
        for _ in range(total // 65536):
            sent += 65536
            yield b"\0" * 65536

    async def go():
        nonlocal sent
        process = psutil.Process()
        async with make_client() as client:
            kind = {"content-type": "multipart/form-data; boundary=x"}
            for i in range(12):
                sent = 0
                answer = await client.post(EDITS, content=chunks(40 << 20), headers=kind)
                assert answer.status_code == 413 and "20971520" in answer.json()["error"]["message"]
                if i == 1:
                    before = process.memory_info().rss
            told = await client.post(EDITS, content=chunks(40 << 20), headers=kind | {"content-length": str(40 << 20)})
            assert told.status_code == 413 and "33554432" in told.json()["error"]["message"]
            assert process.memory_info().rss - before < 64 << 20
            _nothing_kept(client.service)

    asyncio.run(go())


def test_half_a_body_is_waited_for_within_the_limit(make_client):
    async def half():
        yield b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na man'
        await asyncio.sleep(30)

    async def go():
        async with make_client() as client:
            kind = {"content-type": "multipart/form-data; boundary=x"}
            answer = await asyncio.wait_for(client.post(EDITS, content=half(), headers=kind), 20)
            assert answer.status_code == 408 and answer.json()["error"]["code"] == "request_timeout"
        _nothing_kept(client.service)

    asyncio.run(go())


def test_uploads_share_their_memory(make_client):
    async def go():
        async with make_client() as client:
            client.service.uploads.used = client.service.uploads.limit - 100
            answer = await edit(client)
            assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
            assert client.service.uploads.used == client.service.uploads.limit - 100

    asyncio.run(go())


def test_emoji_and_other_letters_are_text(make_client):
    async def go():
        async with make_client() as client:
            answer = await edit(client, prompt="a man img 😀 mit Käse 漢字")
            assert answer.status_code == 200, answer.text

    asyncio.run(go())


def test_more_than_is_accepted_is_told_to_come_back(make_client):
    async def go():
        async with make_client(in_flight_images=3, images=3) as client:
            answers = await asyncio.gather(*(edit(client, n="3", steps="20") for _ in range(5)))
            codes = sorted(answer.status_code for answer in answers)
            assert codes[0] == 200 and codes[-1] == 429 and set(codes) == {200, 429}
            refused = next(answer for answer in answers if answer.status_code == 429)
            assert refused.json()["error"]["type"] == "rate_limit_error" and refused.headers["retry-after"]
        _nothing_kept(client.service)

    asyncio.run(go())


def test_no_header_extends_the_time_limit(make_client):
    async def go():
        async with make_client(request_s=0.2) as client:
            headers = {"x-request-timeout-seconds": "1000"}
            answer = await client.post(
                EDITS, data=GOOD | {"steps": "100", "n": "9"}, files=files(photo()), headers=headers
            )
            assert answer.status_code == 504 and answer.json()["error"]["code"] == "timeout"
            for _ in range(100):
                if not client.service.backend.engine.batcher._rows:
                    break
                await asyncio.sleep(0.1)
        _nothing_kept(client.service)

    asyncio.run(go())


def test_keys_open_the_door(make_client, tmp_path):
    file = tmp_path / "keys.yaml"
    write_keys(file, {"alice": Key(hash_key("right"), 4, 2), "bob": Key(hash_key("other"), None, None)})

    async def go():
        async with make_client(KeyFile(file)) as client:
            client.service.quotas.clock = lambda: 0.0  # no time passes: nothing is refilled
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic right"}):
                client.headers = headers
                for answer in (await edit(client), await client.get("/v1/models")):
                    assert answer.status_code == 401 and answer.json()["error"]["type"] == "authentication_error"
            assert (await client.get("/healthz")).status_code == 200
            client.headers = {"authorization": "Bearer right"}
            assert (await edit(client, n="3")).status_code == 400
            codes = [(await edit(client, n="2")).status_code for _ in range(3)]
            assert codes == [200, 200, 429]
            client.headers = {"authorization": "Bearer other"}
            assert (await edit(client, n="3")).status_code == 200

    asyncio.run(go())


def test_logs_tell_who_and_what_but_no_prompt(make_client, caplog, monkeypatch):
    # Serve, once started in this process, keeps its logger to itself.
    monkeypatch.setattr(logging.getLogger("ray.serve"), "propagate", True)

    async def go():
        async with make_client() as client:
            good = await edit(client, prompt="a man img in a SECRET place")
            bad = await edit(client, prompt="a man in a SECRET place")
            assert (good.status_code, bad.status_code) == (200, 400)
            return good.headers["x-request-id"]

    with caplog.at_level("DEBUG", logger="ray.serve"):
        request_id = asyncio.run(go())
    assert "SECRET" not in caplog.text
    assert f"request_id={request_id} key=anonymous route=edits status=200" in caplog.text
    assert "status=400" in caplog.text and "n=1 photos=1" in caplog.text


def test_a_request_id_cannot_break_the_log():
    def named(value: bytes) -> str:
        return request_id_of(Request({"type": "http", "headers": [(b"x-request-id", value)]}))

    assert named(b"abc-1") == "abc-1"
    for bad in (b"a b", b"a\nstatus=200", b"x" * 65, b"", "ü".encode()):
        assert named(bad) != bad.decode() and named(bad).isalnum()


def test_errors_of_routing_have_the_same_shape(make_client):
    async def go():
        async with make_client() as client:
            for answer, status in ((await client.get("/nothing"), 404), (await client.get(EDITS), 405)):
                assert answer.status_code == status and set(answer.json()["error"]) >= {"message", "type", "code"}
            documented = json.dumps((await client.get("/openapi.json")).json())
            assert "image[]" in documented and "start_merge_step" in documented
            assert (await client.get("/docs")).status_code == 200

    asyncio.run(go())


def test_errors_have_openais_types():
    kinds = {status: ApiError(status, "", code="x").kind for status in (400, 401, 404, 413, 429, 500, 503)}
    assert kinds[400] == kinds[404] == kinds[413] == "invalid_request_error"
    assert (kinds[401], kinds[429], kinds[503]) == ("authentication_error", "rate_limit_error", "server_error")


def test_mutated_requests_are_answered_and_leave_nothing(make_client):
    """A minute's part of `python -m benchmarks.soak asgi`: fields, photos, bytes, headers, routes, and who leaves."""
    service = make_client(steps=4, images=2).service
    report = asyncio.run(storm(service, seed=0, first=0, count=150))
    assert report.failures == [] and report.requests == 150
    assert {200, 400, 499} <= report.statuses.keys()
    assert request(0, 7) == request(0, 7) != request(1, 7)  # number i of a seed can be sent again


@pytest.mark.parametrize(
    "path, status", [("/nowhere", 404), (f"{EDITS}/", 307), ("/healthz", 200), ("/v1/models", 200)]
)
def test_bytes_in_a_query_that_are_no_text(make_client, path, status):
    found = asyncio.run(ask(create_app(make_client().service), Sent("GET", path, b"a=\xff&b=%41", [], [])))
    assert found[0] == status and found[1].get("location", "?a=%FF&b=%41").endswith("?a=%FF&b=%41")
