"""A V2 adapter behind the batching loop: faces are read from new photos, and those without one follow the rules."""

import asyncio
import io

import numpy as np
import pytest
from PIL import Image
from support.api import PROMPT, photo
from support.faces import ASTRONAUT
from support.sampling import write_v2

from serving.http.photos import decode
from serving.jobs import Job

DRAWN = {"face": {"name": "sidecar", "min_size": 8}, "mask": None}
DRAWN["crop"] = {"face_share": 0.1, "working_side": 512, "max_upscale": 2}


def job(model, seed=1, **changes) -> Job:
    values = dict(
        request_id="r", tenant="faces", model=model, prompt=PROMPT, negative_prompt=None, seed=seed, steps=3,
        guidance=3.0, start_merge_step=None, weights=None, width=None, height=None, preprocess="none", pick="largest",
        partials=0,
    )  # fmt: skip
    return Job(**values | changes)


@pytest.fixture(scope="module")
def with_v2(engine, tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("v2")
    drawn = write_v2(tiny_base, folder / "drawn.safetensors", preprocess=DRAWN)
    looking = write_v2(tiny_base, folder / "looking.safetensors", seed=1)
    before = dict(engine.config.adapters)
    asyncio.run(engine.swap_adapters(before | {"drawn": str(drawn), "looking": str(looking)}))
    yield engine
    asyncio.run(engine.swap_adapters(before))


def together(engine, *todo) -> list[dict]:
    async def last(job, photos):
        async for event in engine.generate(job, photos):
            found = event
        return found

    async def go():
        return await asyncio.gather(*(last(*each) for each in todo))

    return asyncio.run(go())


def pixels(event: dict) -> np.ndarray:
    assert event["type"] == "image", event
    return np.asarray(Image.open(io.BytesIO(event["file"]))).astype(int)


def test_v1_and_v2_are_served_together_as_alone(with_v2):
    photos = [decode(photo(i), with_v2.config.limits, i) for i in range(3)]
    todo = [(job("drawn"), photos[:2]), (job("a", 2), photos[:2]), (job("drawn", 3, weights=(0.5,)), photos[2:])]
    for made, each in zip(together(with_v2, *todo), todo, strict=True):
        (alone,) = together(with_v2, each)
        assert np.abs(pixels(made) - pixels(alone)).max() <= 1


def test_photos_without_a_face_are_left_out_or_refused(with_v2):
    pytest.importorskip("cv2")
    limits = with_v2.config.limits
    noise, person = decode(photo(5), limits, 0), decode(ASTRONAUT.read_bytes(), limits, 1)
    (made,) = together(with_v2, (job("looking"), [noise, person]))
    assert made["type"] == "image" and "photo 1: left out (no face found)" in made["notes"]
    (refused,) = together(with_v2, (job("looking"), [noise]))
    assert refused["type"] == "error" and refused["kind"] == "invalid" and "no face found" in refused["message"]
