"""Several people over HTTP: whose photos, where each is, and what is wrong with that."""

import asyncio
import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from support.api import photo

PAIR = "a man img in a red shirt and a woman img2"
HALVES = [{"photos": 2, "box": "left"}, {"box": "right"}]


def ask(make_client, *asked):
    """The answers to forms, sent at once: (people, fields, masks) each, with three photos."""

    async def one(client, people, fields, masks=()):
        files = [("image[]", (f"{i}.png", photo(i), "image/png")) for i in range(3)]
        files += [("region[]", ("m.png", mask, "image/png")) for mask in masks]
        sent = people if isinstance(people, str) else json.dumps(people)
        data = {"prompt": PAIR, "seed": "1", "steps": "2", "size": "64x32", "people": sent, "preprocess": "none"}
        data = {name: value for name, value in (data | fields).items() if value is not None}
        return await client.post("/v1/images/edits", data=data, files=files)

    async def go():
        async with make_client() as client:
            return await asyncio.gather(*(one(client, *each) for each in asked))

    return asyncio.run(go())


def pixels(answer) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))).astype(int)


def half(left: bool) -> bytes:
    mask = np.zeros((32, 64), dtype=np.uint8)
    mask[:, slice(0, 32) if left else slice(32, 64)] = 255
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


def test_people_at_places_are_the_library_s(make_client, engine):
    """Boxes, regions and weights, all in one batch; each is what the library makes of the same photos."""
    from pm.sample import Person, Request

    nowhere = [{"photos": 2}, {"photos": 1}]
    answers = ask(
        make_client,
        (HALVES, {}),
        (nowhere, {}, [half(True), half(False)]),
        (nowhere, {"id_weights": "1,0.5,1", "steps": "3"}),
    )
    boxes, regions, found = map(pixels, answers)
    assert boxes.shape == (32, 64, 3) and np.abs(boxes - regions).max() <= 1 and np.abs(boxes - found).max() > 1
    about = Image.open(io.BytesIO(base64.b64decode(answers[2].json()["data"][0]["b64_json"]))).text
    assert about["merge_step"] == "1" and about["people"].startswith("2 photos")
    photos = [Image.open(io.BytesIO(photo(i))).convert("RGB") for i in range(3)]
    people = [Person(photos[:2], box="left"), Person(photos[2:], box="right")]
    request = Request(PAIR, people=people, seed=1, steps=2, width=64, height=32, adapter="a", merge_step=0)
    (expected,) = engine.pipeline.generate([request])
    assert np.abs(boxes - np.asarray(expected).astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("people", "fields", "masks", "message"),
    [
        ("left,right", {}, (), "it is no JSON list; write"),
        ([{"box": "left"}, {"box": "right"}], {}, (), "people have 2 photos together, and 3 image[] came"),
        ([{"photos": 2, "where": 1}, {}], {}, (), "Extra inputs are not permitted"),
        ([], {}, (), "people is empty"),
        (HALVES, {}, [half(True)], "1 region[] given for 2 people"),
        (HALVES, {}, [half(True), half(False)], "person 1 has both box and region"),
        (HALVES, {"prompt": "a man img"}, (), "no place for person 2 of 2; write 'img2'"),
        (HALVES, {"people": None}, (), "but there are photos of one person; give people="),
        (None, {"people": None, "prompt": "a man img"}, [half(True)], "region[] says where several people are"),
        ([{"photos": 2, "box": [0, 0, 99, 32]}, {"box": "right"}], {}, (), "reaches beyond the picture of 64 x 32"),
    ],
)
def test_what_cannot_be_is_one_line(make_client, people, fields, masks, message):
    (answer,) = ask(make_client, (people, fields, masks))
    assert answer.status_code == 400, answer.text
    assert message in answer.json()["error"]["message"]


def test_a_person_without_a_usable_photo_is_named():
    from pm.errors import RequestError
    from pm.sample import Person, Request
    from pm.sample.references import Reference
    from serving.engine.people import with_usable

    photos = [Image.open(io.BytesIO(photo(i))) for i in range(3)]
    request = Request(PAIR, people=[Person(photos[:2], weights=[0.5, 2.0]), Person(photos[2:])])
    kept = with_usable(request, [Reference(photos[1], index=1), Reference(photos[2], index=2)])
    assert [p.id_images for p in kept.people] == [photos[1:2], photos[2:]] and kept.people[0].weights == [2.0]
    with pytest.raises(RequestError, match="person 2: none of their photos can be used \\(photo 3: left out"):
        with_usable(request, [Reference(photos[0], index=0, notes=("photo 3: left out (no face)",))])
