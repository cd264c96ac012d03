"""Requests as Open WebUI, LibreChat, LiteLLM and OpenAI's own client send them to OpenAI's models.

Fields and their forms were read off the clients' sources: `routers/images.py` (Open WebUI), `OpenAIImageTools.js`
(LibreChat), `llms/openai/image_edit` (LiteLLM).
"""

import asyncio
import base64
import dataclasses
import io

import httpx
import httpx2
import numpy as np
import openai
import pytest
from PIL import Image
from support.api import PROMPT, local_service, photo
from support.sampling import write_fastcomposer, write_ip_adapter

from pm.sample.output_file import read_about
from serving.http.routes import create_app

EDITS, GENERATIONS, VARIATIONS = (f"/v1/images/{name}" for name in ("edits", "generations", "variations"))


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def pixels(text: str) -> np.ndarray:
    return np.asarray(opened(text).convert("RGB")).astype(int)


def post(make_client, path, compat=True, **request) -> httpx.Response:
    async def go():
        async with make_client(compat=compat) as client:
            return await client.post(path, **request)

    return asyncio.run(go())


def first(answer: httpx.Response) -> dict:
    assert answer.status_code == 200, answer.text
    return answer.json()["data"][0]


def png(name="image", content=None) -> tuple:
    return name, ("image.png", content or photo(), "image/png")


def test_open_webui_edits(make_client):
    """One photo as `image`, several as `image[]`; the size from its settings, the model's name, a chat's prompt."""
    data = {"model": "gpt-image-1", "prompt": "Turn him into a wizard!", "n": "1", "size": "512x512"}
    data |= {"background": "transparent", "response_format": "b64_json"}
    for files in ([png()], [png("image[]"), png("image[]", photo(1))]):
        answer = post(make_client, EDITS + "?api-version=2025-04-01-preview", data=data, files=files)
        made = first(answer)
        assert opened(made["b64_json"]).size == (32, 32) and answer.json()["size"] == "32x32"
        assert made["revised_prompt"] == "Turn him into a wizard img!"
        said = "; ".join(made["notes"])
        for part in ("512x512 cannot be drawn here; 32x32", "'gpt-image-1' stands for a", "opaque", "no trigger word"):
            assert part in said


def test_open_webui_generates(make_client):
    body = {"model": "dall-e-2", "prompt": "a red shirt", "n": 1, "size": "1024x1024", "response_format": "b64_json"}
    made = first(post(make_client, GENERATIONS, json=body))
    assert opened(made["b64_json"]).size == (32, 32) and "'dall-e-2' stands for base" in made["notes"][0]
    assert "revised_prompt" not in made


def test_librechat_edits(make_client):
    data = {"model": "gpt-image-1", "prompt": "a woman by the sea", "quality": "auto", "size": "auto"}
    made = first(post(make_client, EDITS, data=data, files=[png("image[]")]))
    assert made["revised_prompt"] == "a woman img by the sea" and opened(made["b64_json"]).format == "PNG"


def test_litellm_edits(make_client):
    """httpx turns what nobody set into empty text; every field of theirs is there."""
    unset = dict.fromkeys(["background", "n", "quality", "response_format", "size", "user", "output_format"])
    unset |= dict.fromkeys(["output_compression", "input_fidelity", "moderation", "stream", "partial_images", "seed"])
    data = {"model": "gpt-image-1", "prompt": PROMPT, **unset}
    made = first(post(make_client, EDITS, data=data, files=[png("image[]")]))
    assert opened(made["b64_json"]).size == (32, 32)
    assert made["notes"] == ["model='gpt-image-1' stands for a here"]


def with_openai(engine, config, act):
    async def go():
        transport = httpx2.ASGITransport(create_app(local_service(engine, config)))
        http = httpx2.AsyncClient(transport=transport, timeout=120)
        async with openai.AsyncOpenAI(
            base_url="http://test/v1", api_key="x", max_retries=0, http_client=http
        ) as client:
            return await act(client)

    return asyncio.run(go())


@pytest.mark.parametrize(("kind", "compression"), [("png", None), ("jpeg", 60), ("webp", 40), ("webp", 100)])
def test_librechat_generates_in_every_format(engine, config, kind, compression):
    def act(client):
        return client.images.generate(
            model="gpt-image-1",
            prompt="a man in a red shirt",
            n=1,
            background="auto",
            output_format=kind,
            output_compression=openai.omit if compression is None else compression,
            quality="auto",
            size="auto",
            user="somebody",
            moderation="low",
            extra_body={"seed": 3, "steps": 2},
        )

    answer = with_openai(engine, config, act)
    data = base64.b64decode(answer.data[0].b64_json)
    assert Image.open(io.BytesIO(data)).format == kind.upper() and answer.output_format == kind
    about = read_about(data)
    assert (about["prompt"], about["seed"], about["steps"]) == ("a man in a red shirt", "3", "2")
    assert "AI-generated" in about["provenance"] and any("trainedAlgorithmicMedia" in text for text in about.values())


def test_lossless_and_lossy_pictures_are_of_one_image(make_client):
    def made(**fields):
        return pixels(
            first(post(make_client, GENERATIONS, json={"prompt": "a man", "seed": 1, "steps": 2} | fields))["b64_json"]
        )

    whole = made()
    assert np.array_equal(whole, made(output_format="webp", output_compression=100))
    for kind in ("jpeg", "webp"):
        fine, coarse = (np.abs(made(output_format=kind, output_compression=q) - whole).mean() for q in (95, 5))
        assert fine < coarse


def test_openai_edits_with_everything(engine, config):
    def act(client):
        return client.images.edit(
            image=[("a.png", photo(1)), ("b.png", photo(2))],
            prompt="a man on a horse",
            model="gpt-image-1.5",
            size="1536x1024",
            quality="high",
            input_fidelity="high",
            output_format="jpeg",
            output_compression=80,
            user="somebody",
        )

    answer = with_openai(engine, config, act)
    picture = opened(answer.data[0].b64_json)
    assert picture.format == "JPEG" and picture.width > picture.height and answer.size == "40x24"


def test_variations_are_the_person_with_the_class_word_alone(engine, config, make_client):
    def act(client):
        return client.images.create_variation(
            image=photo(), n=2, size="256x256", model="dall-e-2", response_format="b64_json", extra_body={"seed": 5}
        )

    answer = with_openai(engine, config, act)
    assert [each.revised_prompt for each in answer.data] == ["a person img"] * 2
    same = first(post(make_client, EDITS, data={"prompt": "a person img", "seed": "6"}, files=[png()]))
    assert np.abs(pixels(answer.data[1].b64_json) - pixels(same["b64_json"])).max() <= 1
    woman = first(post(make_client, VARIATIONS, data={"class_word": "woman", "seed": "6"}, files=[png()]))
    written = first(post(make_client, EDITS, data={"prompt": "a woman img", "seed": "6"}, files=[png()]))
    assert np.abs(pixels(woman["b64_json"]) - pixels(written["b64_json"])).max() <= 1
    refused = post(make_client, VARIATIONS, files=[("n", (None, "1"))])
    assert refused.status_code == 400 and "no photo" in refused.json()["error"]["message"]


def test_photos_under_numbered_names_in_their_order(make_client):
    """`image[0]` was a text field of 64 KiB at most."""
    large = photo(7, size=(200, 180))
    assert len(large) > 64 * 1024
    data = {"prompt": PROMPT, "seed": "1", "id_weights": "[4, 0]"}
    ordered = first(post(make_client, EDITS, data=data, files=[png("image[]", large), png("image[]", photo(2))]))
    mixed = [png("image[1]", photo(2)), png("image[0]", large)]
    numbered = first(post(make_client, EDITS, data=data | {"id_weights": "4,0"}, files=mixed))
    assert np.abs(pixels(ordered["b64_json"]) - pixels(numbered["b64_json"])).max() <= 1
    swapped = first(post(make_client, EDITS, data=data | {"id_weights": "[0, 4]"}, files=mixed))
    assert not np.array_equal(pixels(ordered["b64_json"]), pixels(swapped["b64_json"]))


def test_a_file_field_that_nobody_filled_in_is_no_photo(make_client):
    head = b'--x\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\n\r\n%b\r\n'
    prompt = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n' + PROMPT.encode() + b"\r\n"
    kind = {"content-type": "multipart/form-data; boundary=x"}
    for second, status in ((head % (b"image", b"", b""), 200), (head % (b"image", b"a.png", b""), 400)):
        body = prompt + head % (b"image", b"a.png", photo()) + second + b"--x--\r\n"
        answer = post(make_client, EDITS, content=body, headers=kind)
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize("weights", ["[1, 0.5]", "1,0.5", " [1,0.5] ", "1, 0.5"])
def test_weights_in_a_form_may_be_json(make_client, weights):
    """They were read as "[1" and "0.5]"."""
    files = [png("image[]"), png("image[]", photo(1))]
    made = first(post(make_client, EDITS, data={"prompt": PROMPT, "seed": "1", "id_weights": weights}, files=files))
    assert opened(made["b64_json"]).text["weights"] == "1.0, 0.5"


def test_the_third_of_four_images_is_the_one_of_its_seed(make_client):
    files = [png()]
    four = post(make_client, EDITS, data={"prompt": PROMPT, "seed": "7", "n": "4"}, files=files).json()["data"]
    one = first(post(make_client, EDITS, data={"prompt": PROMPT, "seed": "9"}, files=files))
    assert [each["seed"] for each in four] == [7, 8, 9, 10] and one["seed"] == 9
    assert np.abs(pixels(four[2]["b64_json"]) - pixels(one["b64_json"])).max() <= 1


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("num_inference_steps", "here it is 'steps'"),
        ("cfg_scale", "here it is 'guidance_scale'"),
        ("CFG", "here it is 'guidance_scale'"),
        ("num_images_per_prompt", "here it is 'n'"),
        ("width", "here it is 'size'"),
        ("sampler_name", "a setting of the server"),
        ("url", "sent as image[] in multipart/form-data; nothing is fetched"),
        ("image_urls[]", "sent as image[] in multipart/form-data"),
        ("weights", "here it is 'id_weights'"),
        ("sede", "did you mean 'seed'?"),
        ("qwertyuiop", "; known are "),
    ],
)
@pytest.mark.parametrize("compat", [True, False])
def test_names_of_other_servers_get_a_hint(make_client, field, hint, compat):
    answer = post(make_client, EDITS, compat, data={"prompt": PROMPT, field: "1"}, files=[png()])
    error = answer.json()["error"]
    assert answer.status_code == 400 and hint in error["message"] and error["code"] == "unknown_parameter"


def test_sizes_become_the_nearest_that_can_be_drawn(make_client):
    for asked, drawn in (
        ("1024x1024", "32x32"),
        ("1024x1536", "24x40"),
        ("33x64", "32x64"),
        ("1x1", "8x8"),
        ("auto", "32x32"),
    ):
        answer = post(make_client, GENERATIONS, json={"prompt": "a man", "size": asked, "steps": 1})
        made = first(answer)
        assert answer.json()["size"] == drawn and opened(made["b64_json"]).size == tuple(map(int, drawn.split("x")))
        assert bool(made.get("notes")) == (asked not in ("auto", drawn))
    assert post(make_client, GENERATIONS, json={"prompt": "a man", "size": "0x8"}).status_code == 400


def test_models_of_other_services_are_known_but_not_listed(make_client):
    async def go():
        async with make_client(compat=True) as client:
            assert (await client.get("/v1/models/gpt-image-1")).status_code == 200
            assert (await client.get("/v1/models/gpt-4")).status_code == 404
            assert [m["id"] for m in (await client.get("/v1/models")).json()["data"]] == ["a", "b", "base"]
        async with make_client(compat=False) as client:
            assert (await client.get("/v1/models/gpt-image-1")).status_code == 404

    asyncio.run(go())


def test_long_and_weighted_prompts_and_strengths_over_http(make_client):
    long = "a photo of a (man img:1.2) in a red shirt BREAK " + "smiling in a photo, " * 40
    fields = {"prompt": long, "seed": "1", "id_strength": "0.5", "id_start": "0.25", "id_end": "0.75"}
    made = first(post(make_client, EDITS, compat=False, data=fields, files=[png()]))
    text = opened(made["b64_json"]).text
    assert (text["prompt"], text["id_strength"], text["merge_step"], text["id_end"]) == (long, "0.5", "1", "0.75")
    other = first(post(make_client, EDITS, compat=False, data=fields | {"id_strength": "1.25"}, files=[png()]))
    assert not np.array_equal(pixels(made["b64_json"]), pixels(other["b64_json"]))
    assert "notes" not in made
    asked = first(post(make_client, EDITS, compat=False, data={"prompt": "a table img"}, files=[png()]))
    assert "'table' stands before 'img'" in asked["notes"][0]


@pytest.fixture(scope="module")
def kinds(config, tiny_base, tmp_path_factory):
    """An engine with an IP-Adapter and a FastComposer adapter, and its configuration."""
    from serving.engine.core import Engine
    from serving.metrics import MemoryRecorder

    folder = tmp_path_factory.mktemp("kinds")
    files = {
        "ip": str(write_ip_adapter(tiny_base, folder / "ip.safetensors")),
        "fast": str(write_fastcomposer(tiny_base, folder / "fast.safetensors")),
    }
    changed = dataclasses.replace(config, adapters=files)
    engine = Engine(changed, MemoryRecorder())
    yield engine, changed
    engine.stop()


def test_other_kinds_of_adapters_are_served(kinds):
    async def go():
        transport = httpx.ASGITransport(create_app(local_service(*kinds)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=120) as client:

            async def ask(**fields):
                data = {"prompt": PROMPT, "seed": "1"} | fields
                return await client.post(EDITS, data=data, files=[png(), png("image[]", photo(1))])

            whole, half, strength = await asyncio.gather(
                ask(model="ip"), ask(model="ip", scale="0.5"), ask(model="ip", id_strength="0.5")
            )
            assert np.abs(pixels(first(half)["b64_json"]) - pixels(first(strength)["b64_json"])).max() <= 1
            assert np.abs(pixels(first(half)["b64_json"]) - pixels(first(whole)["b64_json"])).max() > 1
            assert opened(first(half)["b64_json"]).text["scale"] == "0.5"
            plain = first(await ask(model="ip", prompt="a man in a red shirt"))  # needs no trigger, and gets none
            assert "revised_prompt" not in plain
            fast = first(await ask(model="fast", id_weights="1,0.5"))
            assert opened(fast["b64_json"]).size == (32, 32)
            refused = await ask(model="fast", scale="0.5")
            assert refused.status_code == 400 and "image prompt" in refused.json()["error"]["message"]

    asyncio.run(go())
