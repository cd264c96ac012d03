"""Style LoRAs over HTTP: by name from a folder, in every form a client may write them."""

import asyncio
import base64
import io
import json

import pytest
from PIL import Image
from support.api import photo
from support.loras import as_kohya, as_peft, random_pairs, write
from support.sampling import worst

from pm.model.base import load_base
from serving.engine.loras import ServedLoras
from serving.http.loras import read_loras
from serving.loras import LoraFolder


@pytest.fixture
def folder(tiny_base, tmp_path):
    base = load_base(tiny_base)
    write(tmp_path / "ink.safetensors", as_peft(random_pairs(base, 1)))
    write(tmp_path / "more" / "oil paint.safetensors", as_kohya(random_pairs(base, 2)))
    (tmp_path / "broken.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    return tmp_path


@pytest.fixture
def client(make_client, engine, folder, monkeypatch):
    client = make_client(loras=2)
    client.service.loras = LoraFolder(str(folder))
    monkeypatch.setattr(engine, "loras", ServedLoras(engine.pipeline, LoraFolder(str(folder))))
    return client


def picture(answer) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))


def test_loras_are_listed_and_drawn_with(client):
    async def ask():
        listed = (await client.get("/v1/loras")).json()
        common = {"prompt": "a man", "seed": 1, "steps": 2}
        images = [
            picture(await client.post("/v1/images/generations", json=common | more))
            for more in (
                {},
                {"loras": {"ink": 0.8, "more/oil paint": 0.2}},
                {"loras": ["ink:0.8", "more/oil paint:0.2"]},
                {"loras": {"ink": 0.0}},
            )
        ]
        form = {"prompt": "a man img", "seed": "1", "steps": "2", "model": "a"}
        upload = {"image[]": ("a.png", photo(), "image/png")}
        people = [
            picture(await client.post("/v1/images/edits", data=form | more, files=upload))
            for more in (
                {},
                {"loras": "ink:0.8, more/oil paint:0.2"},
                {"loras": json.dumps({"ink": 0.8, "more/oil paint": 0.2})},
                {"loras[]": ["ink:0.8", "more/oil paint:0.2"]},
            )
        ]
        return listed, images, people

    listed, images, people = asyncio.run(ask())
    assert [entry["id"] for entry in listed["data"]] == ["broken", "ink", "more/oil paint"]
    assert worst(images[0], images[1]) > 8 and worst(people[0], people[1]) > 8
    assert worst(images[1], images[2]) == 0 and worst(images[0], images[3]) == 0
    assert worst(people[1], people[2]) == 0 and worst(people[1], people[3]) == 0
    assert images[1].text["loras"] == "ink:0.8, more/oil paint:0.2" and "loras" not in images[0].text


@pytest.mark.parametrize(
    ("loras", "status", "message"),
    [
        ({"inc": 1}, 404, "lora 'inc' is not here; did you mean 'ink'? use broken, ink, more/oil paint"),
        ({"../ink": 1}, 404, "is not here"),
        ({"ink": 1, "more/oil paint": 1, "broken": 1}, 400, "3 loras are given; this service takes up to 2"),
        ({"ink": 99}, 400, "from -10 to 10"),
        ({"ink": "much"}, 400, "must be a number"),
        (["ink", "ink:0.2"], 400, "given twice"),
        ("[1", 400, "is no JSON"),
        (7, 400, "must be a text"),
        ({"broken": 1}, 400, "LoRA broken is a Git LFS pointer"),
    ],
)
def test_wrong_ones_are_answered_with_what_is_right(client, folder, loras, status, message):
    body = {"prompt": "a man", "loras": loras}
    answer = asyncio.run(client.post("/v1/images/generations", json=body))
    assert answer.status_code == status
    error = answer.json()["error"]
    assert message in error["message"] and str(folder) not in error["message"] and "\n" not in error["message"]


def test_files_come_change_and_go(client, engine, tiny_base, folder):
    client.service.loras._clock = engine.loras.folder._clock = iter(range(0, 1000, 10)).__next__
    body = {"prompt": "a man", "seed": 1, "steps": 2, "loras": {"new": 1}}

    async def ask():
        return await client.post("/v1/images/generations", json=body)

    assert asyncio.run(ask()).status_code == 404
    file = write(folder / "new.safetensors", as_peft(random_pairs(load_base(tiny_base), 3)))
    one = picture(asyncio.run(ask()))
    write(file, as_peft(random_pairs(load_base(tiny_base), 4, rank=2)))
    assert worst(picture(asyncio.run(ask())), one) > 8
    file.unlink()
    assert asyncio.run(ask()).status_code == 404


def test_a_service_without_a_folder_has_none(make_client):
    body = {"prompt": "a man", "loras": {"ink": 1}}
    answer = asyncio.run(make_client().post("/v1/images/generations", json=body))
    assert answer.status_code == 404 and "this service has none" in answer.json()["error"]["message"]


def test_empty_means_none():
    assert [read_loras(value) for value in (None, "", " ", [], {}, ["", ""])] == [None, {}, {}, {}, {}, {}]
