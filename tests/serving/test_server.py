"""The running server over real HTTP: OpenAI's own client, clients that leave, a replica that is killed, an update."""

import asyncio
import base64
import dataclasses
import io
import os
import signal
import time

import httpx
import numpy as np
import openai
import pytest
from PIL import Image
from support.api import PROMPT, photo


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=240) as client:
        yield client


@pytest.fixture
def engines(server):
    from ray import serve

    from serving.app import NAME

    return serve.get_deployment_handle("Engine", NAME)


def image(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def form(**fields) -> dict:
    parts = [("image[]", ("a.png", photo(), "image/png"))]
    return {"data": {"prompt": PROMPT, **{k: str(v) for k, v in fields.items()}}, "files": parts}


def test_openai_client_edits_with_n_and_seed(client):
    photos = [("a.png", photo(1)), ("b.jpg", photo(2, kind="JPEG"))]
    ours = {
        "steps": 5,
        "guidance_scale": 3.5,
        "start_merge_step": 1,
        "id_weights": [1, 0.5],
        "negative_prompt": "a hat",
    }
    answer = client.images.edit(image=photos, prompt=PROMPT, n=2, size="32x32", extra_body=ours | {"seed": 7})
    first, second = (image(item.b64_json) for item in answer.data)
    assert first.size == (32, 32) and answer.size == "32x32"
    assert (first.text["seed"], second.text["seed"], first.text["steps"]) == ("7", "8", "5")
    assert "AI-generated" in first.text["provenance"]
    again = client.images.edit(image=photos, prompt=PROMPT, size="32x32", extra_body=ours | {"seed": 8})
    assert np.abs(np.asarray(image(again.data[0].b64_json)).astype(int) - np.asarray(second)).max() <= 1
    assert not np.array_equal(np.asarray(first), np.asarray(second))


def test_openai_client_streams(client):
    stream = client.images.edit(
        image=photo(), prompt=PROMPT, n=1, stream=True, partial_images=2, extra_body={"steps": 12, "seed": 3}
    )
    events = list(stream)
    kinds = ["image_edit.partial_image"] * 2 + ["image_edit.completed"]
    assert [event.type for event in events] == kinds
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    assert all(image(event.b64_json).size == (32, 32) for event in events)
    plain = client.images.edit(image=photo(), prompt=PROMPT, extra_body={"steps": 12, "seed": 3})
    assert np.abs(np.asarray(image(events[-1].b64_json)).astype(int) - image(plain.data[0].b64_json)).max() <= 1


def test_openai_client_generates_lists_models_and_understands_errors(client, server):
    answer = client.images.generate(prompt="a man in a red shirt", extra_body={"steps": 2}, response_format="url")
    assert answer.data[0].url.startswith("data:image/png;base64,")
    assert [model.id for model in client.models.list()] == ["a", "b", "base"]
    with pytest.raises(openai.BadRequestError, match="2 times, after man and woman"):
        client.images.edit(image=photo(), prompt="a man img and a woman img")
    with pytest.raises(openai.NotFoundError, match="use a, b, base"):
        client.images.edit(image=photo(), prompt=PROMPT, model="nobody")
    for path in ("/healthz", "/readyz", "/docs"):
        assert httpx.get(server.url + path).status_code == 200


def test_openai_client_of_another_service(client):
    """What is sent to OpenAI's own models: their name, their sizes, no trigger word, another format, variations."""
    answer = client.images.edit(
        image=photo(), prompt="make him a pirate", model="gpt-image-1", size="1024x1024", output_format="webp"
    )
    assert image(answer.data[0].b64_json).format == "WEBP"
    assert (answer.size, answer.output_format) == ("32x32", "webp")
    assert answer.data[0].revised_prompt == "make him a pirate img"
    varied = client.images.create_variation(image=photo(), n=2, size="256x256")
    assert [image(each.b64_json).size for each in varied.data] == [(32, 32)] * 2


def test_clients_that_leave_free_their_places(server, engines):
    """Four streams with a thousand steps to go are closed; a fifth request is served as if they had never been."""

    async def leave():
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as http:
            body = form(steps=1000, stream="true", partial_images=3)
            request = http.stream("POST", "/v1/images/edits", **body)
            async with request as answer:  # the headers come with the first preview
                async for _ in answer.aiter_bytes():
                    return

    async def leave_without_reading():
        async with httpx.AsyncClient(base_url=server.url) as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.post("/v1/images/edits", **form(steps=1000), timeout=3)

    async def go():
        await asyncio.gather(leave(), leave(), leave_without_reading(), leave_without_reading())
        begun, until = await engines.stats.remote(), time.monotonic() + 30
        stats = begun
        while (stats["rows"] or stats["waiting"]) and time.monotonic() < until:
            stats = await engines.stats.remote()
        assert (stats["rows"], stats["waiting"]) == (0, 0)
        assert stats["steps"] - begun["steps"] < 500
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as http:
            assert (await http.post("/v1/images/edits", **form())).status_code == 200

    asyncio.run(go())


async def _load(server, clients: int, act, **fields) -> list[int]:
    """Status of every answer of `clients` clients with three requests each, while `act()` happens."""
    codes: list[int] = []

    async def one(http, number: int) -> None:
        for i in range(3):
            answer = await http.post("/v1/images/edits", **form(seed=10 * number + i, **fields))
            codes.append(answer.status_code)
            if answer.status_code == 200:
                assert image(answer.json()["data"][0]["b64_json"]).size == (32, 32)

    # No shorter than the server's own limit: what counts is that every answer comes.
    async with httpx.AsyncClient(base_url=server.url, timeout=330) as http:
        tasks = [asyncio.create_task(one(http, i)) for i in range(clients)]
        while len(codes) < clients // 2:
            await asyncio.sleep(0.05)
        await act()
        await asyncio.gather(*tasks)
    return codes


def test_a_killed_replica_loses_no_accepted_request(server, engines):
    async def go():
        before = await engines.stats.remote()

        async def kill():
            os.kill(before["pid"], signal.SIGKILL)

        codes = await _load(server, 8, kill, steps=60)
        return before, codes, await engines.stats.remote()

    before, codes, after = asyncio.run(go())
    assert codes == [200] * 24
    assert after["pid"] != before["pid"]


def test_a_rolling_update_loses_no_accepted_request(server, engines):
    from ray import serve

    from serving.app import NAME, deploy

    changed = dataclasses.replace(server.config, provenance="AI-generated, second edition")

    async def update():
        await asyncio.to_thread(serve.run, deploy(changed), name=NAME)

    codes = asyncio.run(_load(server, 6, update, steps=60))
    assert codes == [200] * 18
    answer = httpx.post(f"{server.url}/v1/images/edits", **form(), timeout=120).json()
    assert image(answer["data"][0]["b64_json"]).text["provenance"] == changed.provenance


def test_prometheus_reads_every_metric(server):
    from serving.metrics import METRICS

    assert httpx.post(f"{server.url}/v1/images/edits", **form(), timeout=120).status_code == 200
    assert httpx.post(f"{server.url}/v1/images/edits", **form(n=1000), timeout=120).status_code == 400
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/images/edits", **form(steps=1000), timeout=2)
    quiet = {"pm_retries_total", "pm_failed_total", "pm_local_quotas_total", "pm_adapters_dropped_total"}
    quiet |= {"pm_adapter_bytes", "pm_checked_total"}  # with more than one adapter, and with checks
    wanted, until = {f"ray_{name}" for name in METRICS if name not in quiet}, time.monotonic() + 60
    while time.monotonic() < until:
        text = httpx.get(f"http://127.0.0.1:{server.metrics_port}/metrics").text
        missing = {name for name in wanted if name not in text}
        if not missing:
            return
        time.sleep(1)
    assert not missing
