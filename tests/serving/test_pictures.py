"""Pictures over HTTP: OpenAI's `mask`, a picture to change, control and image prompts."""

import asyncio
import base64
import dataclasses
import io

import numpy as np
import openai
import pytest
from PIL import Image
from support.api import PROMPT
from support.pictures import clear_right, half, picture, write_controlnet
from support.sampling import write_ip_adapter

EDITS = "/v1/images/edits"


@pytest.fixture(scope="module")
def controls(engine, tiny_base, tmp_path_factory):
    """A service with a ControlNet "edges" and an IP-Adapter "style"."""
    folder = tmp_path_factory.mktemp("controls")
    net = write_controlnet(tiny_base, folder / "net")
    style = write_ip_adapter(tiny_base, folder / "ip.safetensors")
    engine.pipeline.load_control(net, "edges")
    engine.pipeline.load_image_prompt(style, "style")
    yield {"edges": str(net)}
    engine.pipeline.unload_control("edges")
    engine.pipeline.unload_photomaker_adapter("style")


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def ask(make_client, files, controls=None, **fields):
    """The answer to a form."""

    async def go():
        async with make_client() as client:
            service = client.service
            service.config = dataclasses.replace(service.config, controls=controls or {})
            service.adapters = {**service.adapters, "style": "style"}
            parts = [(name, ("a.png", png(image), "image/png")) for name, image in files]
            data = {"prompt": PROMPT, "seed": "1", "steps": "3"} | {k: str(v) for k, v in fields.items()}
            return await client.post(EDITS, data=data, files=parts)

    return asyncio.run(go())


def pixels(answer) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    image = Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))
    return np.asarray(image).astype(int)


def test_openai_s_own_client_sends_a_mask(make_client):
    async def go():
        async with make_client() as http:
            api = openai.AsyncOpenAI(base_url="http://test/v1", api_key="none", max_retries=0, http_client=http)
            return await api.images.edit(
                image=png(picture(1)),
                mask=png(clear_right(picture(1))),
                prompt=PROMPT,
                extra_body={"seed": 1, "steps": 3},
            )

    made = Image.open(io.BytesIO(base64.b64decode(asyncio.run(go()).data[0].b64_json)))
    ours = ask(make_client, [("image[]", picture(1)), ("init_image", picture(1)), ("mask", half())])
    assert np.array_equal(np.asarray(made), pixels(ours)) and made.text["masked"] == "True"


def test_openai_s_mask_changes_the_first_image_and_shows_its_person(make_client):
    """As `client.images.edit(image=..., mask=...)` sends it."""
    made = ask(make_client, [("image", picture(1)), ("mask", clear_right(picture(1)))])
    ours = ask(make_client, [("image[]", picture(1)), ("init_image", picture(1)), ("mask", half())])
    assert np.array_equal(pixels(made), pixels(ours))
    # Of several images the first is changed, and the others show the person.
    made = ask(make_client, [("image[]", picture(1)), ("image[]", picture(2)), ("mask", half())])
    other = ask(make_client, [("image[]", picture(2)), ("init_image", picture(1)), ("mask", half())])
    assert np.array_equal(pixels(made), pixels(other))
    assert not np.array_equal(pixels(made), pixels(ours))


def test_the_base_alone_changes_a_picture_without_photos(make_client):
    files = [("image", picture(1)), ("mask", half())]
    masked = pixels(ask(make_client, files, model="base", prompt="a man"))
    little = pixels(ask(make_client, [("init_image", picture(1))], prompt="a man", strength=0.4))
    whole = pixels(ask(make_client, [("init_image", picture(1))], prompt="a man", strength=1))
    assert masked.shape == little.shape == (32, 32, 3)
    assert not np.array_equal(little, whole)


def test_a_picture_of_another_size_gives_its_aspect_and_a_note(make_client):
    files = [("image[]", picture(1)), ("init_image", picture(2, (640, 320)))]
    answer = ask(make_client, files)
    assert answer.json()["size"] == "48x24"
    assert answer.json()["data"][0]["notes"] == [
        "image of 640 x 320 pixels was scaled: 48 x 24",
    ]
    assert ask(make_client, files, size="32x32").json()["size"] == "32x32"


def test_controls_and_image_prompts(make_client, controls):
    plain = [("image[]", picture(1))]
    none = pixels(ask(make_client, plain))
    controlled = [*plain, ("control_image[]", picture(3))]
    one = pixels(ask(make_client, controlled, controls, control="edges", control_scale=0.8))
    edges = pixels(ask(make_client, controlled, controls, control="edges", control_preprocess="canny"))
    style = pixels(ask(make_client, [*plain, ("image_prompt[]", picture(4))], image_prompt_model="style"))
    made = [none, one, edges, style]
    assert all(not np.array_equal(a, b) for i, a in enumerate(made) for b in made[:i])


@pytest.mark.parametrize(
    ("names", "fields", "fragment"),
    [
        (["image[]"], {"strength": 0.5}, "strength is of the picture to change; send that as init_image"),
        (["image[]", "init_image"], {"strength": 0}, "strength='0'"),
        (["image[]", "init_image"], {"strength": "nan"}, "strength='nan'"),
        (["image[]", "init_image", "init_image"], {}, "more than 1 init_image"),
        (["image[]", "control_image"], {}, "0 names in control for 1 control_image"),
        (["image[]"], {"control": "edges"}, "1 names in control for 0 control_image"),
        (["image[]", "control_image"], {"control": "pose"}, "control 'pose' is not here; use edges"),
        (["image[]", "control_image"], {"control": "edges", "control_scale": "-1"}, "control_scale=-1.0 is out of"),
        (["image[]", "control_image"], {"control": "edges", "control_start": "0,1"}, "2 values in control_start for 1"),
        (["image[]", "control_image"], {"control": "edges", "control_preprocess": "pose"}, "control_preprocess"),
        (["image[]"], {"image_prompt_scale": 1}, "image_prompt_scale is given without pictures"),
        (["image[]", "image_prompt"], {"image_prompt_model": "b"}, "image_prompt names 'b'; IP-Adapters"),
        (["mask"], {}, "mask is given without a picture"),
    ],
)
def test_what_cannot_be_is_refused(make_client, controls, names, fields, fragment):
    answer = ask(make_client, [(name, half() if name == "mask" else picture(1)) for name in names], controls, **fields)
    assert (answer.status_code, fragment in answer.json()["error"]["message"]) == (400, True), answer.text


def test_a_mask_of_another_size_or_of_nothing_is_refused(make_client):
    wide, black = half((64, 32)), Image.new("L", (32, 32))
    for mask, fragment in ((wide, "mask_image has 64 x 32 pixels"), (black, "nothing would be drawn")):
        answer = ask(make_client, [("image", picture(1)), ("mask", mask)])
        assert answer.status_code == 400 and fragment in answer.json()["error"]["message"], answer.text


def test_an_empty_mask_means_none(make_client):
    async def go():
        async with make_client() as client:
            files = [("image", ("a.png", png(picture(1)), "image/png")), ("mask", ("", b"", "image/png"))]
            return await client.post(EDITS, data={"prompt": PROMPT, "seed": "1", "steps": "3"}, files=files)

    assert np.array_equal(pixels(asyncio.run(go())), pixels(ask(make_client, [("image", picture(1))])))
