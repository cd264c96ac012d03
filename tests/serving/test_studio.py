"""What the studio needs of the API: what a model sees of photos, what the service offers, progress; and its files."""

import asyncio
import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.api import PROMPT, photo

from serving.http.studio import sample_photos

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "serving" / "studio"


def drawn() -> bytes:
    return (ROOT / "assets/toon/examples/woman_1.png").read_bytes()


def parts(*photos: bytes) -> list[tuple]:
    return [("image[]", ("photo", data, "image/png")) for data in photos]


def call(make_client, path, sent=(), fields=None, **options):
    async def go():
        async with make_client(**options) as client:
            if sent:
                return await client.post(path, files=parts(*sent), data=fields or {})
            return await client.get(path)

    return asyncio.run(go())


def test_each_photo_is_shown_as_it_is_seen_or_says_why_not(make_client):
    plain = io.BytesIO()
    Image.new("RGB", (64, 64), (90, 120, 200)).save(plain, "PNG")
    photos = (drawn(), plain.getvalue(), b"no photo at all")
    answer = call(make_client, "/v1/images/references", photos, {"preprocess": "drawing"})
    seen, nobody, broken = answer.json()["data"]
    assert answer.status_code == 200 and [seen["usable"], nobody["usable"], broken["usable"]] == [True, False, False]
    crop, person = (Image.open(io.BytesIO(base64.b64decode(seen[name]))) for name in ("crop", "person"))
    assert crop.mode == "RGB" and person.mode == "RGBA" and crop.size == person.size and max(crop.size) <= 256
    alpha = np.asarray(person)[..., 3]
    assert alpha[-4:, alpha.shape[1] // 2].min() > 200 and alpha[:4, :4].max() < 50  # the shoulders, and the wall
    assert (
        "nobody" in nobody["reason"]
        and "image[2]" in broken["reason"]
        and [each["index"] for each in (nobody, broken)] == [1, 2]
    )


def test_a_look_is_guarded_like_a_picture(make_client):
    url = "/v1/images/references"
    assert call(make_client, url, (photo(),), {"model": "nobody"}).status_code == 404
    wrong = call(make_client, url, (photo(),), {"preprocess": "paint"})
    assert wrong.status_code == 400 and "preprocess" in wrong.json()["error"]["message"]
    assert call(make_client, url, (photo(), photo()), photos=1, images=1).json()["error"]["code"] == "too_many_images"
    assert call(make_client, url, (photo(size=(999, 900)),), photo_bytes=500).status_code == 413


def test_the_service_says_what_it_offers(make_client, config):
    found = call(make_client, "/v1/capabilities").json()
    assert found["models"] == list(config.adapters) and found["default_model"] == next(iter(config.adapters))
    assert found["defaults"]["steps"] == config.sampler.steps and found["limits"]["photos"] == config.limits.photos
    assert "dpmpp_2m" in found["samplers"] and "lightning4" not in found["samplers"]  # its LoRA is not here
    assert found["class_words"][0] == "person" and {"square", "portrait"} <= set(found["aspects"])


def test_a_stream_tells_every_step_where_asked(make_client):
    async def go(**fields):
        async with make_client() as client:
            sent = {"prompt": PROMPT, "stream": "true", "seed": "1", **fields}
            answer = await client.post("/v1/images/edits", files=parts(photo()), data=sent)
            return [json.loads(block.split("data: ")[1]) for block in answer.text.strip().split("\n\n")]

    events = asyncio.run(go(progress="true"))
    steps = [(event["step"], event["steps"]) for event in events if event["type"] == "image_edit.progress"]
    assert steps and steps == sorted(steps) and {total for _, total in steps} == {4}
    assert events[-1]["type"] == "image_edit.completed"
    assert [event["type"] for event in asyncio.run(go())] == ["image_edit.completed"]  # OpenAI's clients know no others


def test_the_queue_tells_each_image_its_place(make_client):
    async def go():
        async with make_client() as client:
            sent = {"prompt": PROMPT, "stream": "true", "seed": "1", "n": "9", "progress": "true"}
            answer = await client.post("/v1/images/edits", files=parts(photo()), data=sent)
            return [json.loads(block.split("data: ")[1]) for block in answer.text.strip().split("\n\n")]

    places: dict[int, list[int]] = {}
    for event in asyncio.run(go()):
        if event["type"] == "image_edit.queued":
            places.setdefault(event["image_index"], []).append(event["position"])
    assert places and all(told == sorted(told, reverse=True) for told in places.values())  # four are sampled at once
    assert max(max(told) for told in places.values()) >= 2


def test_every_file_of_the_page_is_there_and_its_own(make_client):
    async def go():
        async with make_client() as client:
            page = await client.get("/studio")
            linked = re.findall(r'(?:src|href)="(studio/[^"]+)"', page.text)
            return (
                page,
                {name: await client.get(f"/{name}") for name in linked},
                await client.get("/studio/assets/index.html"),
            )

    page, linked, again = asyncio.run(go())
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert (
        len(linked) >= 5 and all(answer.status_code == 200 for answer in linked.values()) and again.status_code == 404
    )
    assert not re.search(r"\son\w+=|\sstyle=|<style|https?://", page.text)
    for script in FILES.rglob("*.js"):
        text = script.read_text()
        assert len(text.splitlines()) <= 300 and "innerHTML" not in text, script
        for target in re.findall(r'(?:from|import\() ?"(\.[^"]+)"', text):
            assert (script.parent / target).is_file(), f"{script} imports {target}"
    assert not any(re.search(r"url\(|@import", sheet.read_text()) for sheet in FILES.rglob("*.css"))


def test_sample_photos_are_grouped_by_person(make_client, tmp_path):
    for name in ("a_1.png", "a_2.png", "b.jpg", "carla/x.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    people = sample_photos([str(tmp_path)])
    assert {name: len(files) for name, files in people.items()} == {"a": 2, "b": 1, "carla": 1}
    listed = call(make_client, "/studio/examples").json()
    assert [each["name"] for each in listed] == ["man", "woman"]
    assert call(make_client, "/studio/examples/woman/0").content == drawn()
    assert call(make_client, "/studio/examples/woman/9").status_code == 404


@pytest.mark.parametrize("path", ["/v1/capabilities", "/v1/images/references"])
def test_what_needs_a_key_asks_for_it(make_client, tmp_path, path):
    from serving.http.keys import Key, KeyFile, hash_key, write_keys

    write_keys(tmp_path / "keys.yaml", {"alice": Key(hash_key("secret"), None, None)})
    keys = KeyFile(tmp_path / "keys.yaml")
    photos = (photo(),) if path.endswith("references") else ()
    assert call(make_client, path, photos, keys=keys).status_code == 401
    assert call(make_client, "/studio", keys=keys).status_code == 200  # the page asks for the key
