"""The batching loop with a real sampler: who joins, who leaves, and that the others are not affected."""

import asyncio
import dataclasses
import io
import threading

import numpy as np
import pytest
from PIL import Image
from support.api import PROMPT, photo
from support.faces import astronaut

from pm.sample.presets import preset
from serving.http.photos import decode
from serving.jobs import Job, Sampling
from serving.metrics import MemoryRecorder


@pytest.fixture(scope="module")
def photos(config):
    return [decode(photo(i), config.limits, i) for i in range(4)]


def job(**changes) -> Job:
    values = dict(
        request_id="r", tenant="t", model="a", prompt=PROMPT, negative_prompt=None, seed=1, steps=4, guidance=3.0,
        start_merge_step=None, weights=None, width=None, height=None, preprocess="auto", pick="largest", partials=0,
    )  # fmt: skip
    return Job(**values | changes)


async def make(engine, job: Job, photos) -> dict:
    """The last event of a job."""
    async for event in engine.generate(job, photos):
        last = event
    return last


def pixels(event: dict) -> np.ndarray:
    assert event["type"] == "image", event
    return np.asarray(Image.open(io.BytesIO(event["file"]))).astype(int)


def together(engine, *todo) -> list[dict]:
    async def go():
        return await asyncio.gather(*(make(engine, job, photos) for job, photos in todo))

    return asyncio.run(go())


def test_ten_people_at_once_are_each_as_alone(engine, photos):
    todo = [
        (job(seed=1), photos[:1]),
        (job(seed=2, model="b", steps=7), photos[1:3]),
        (job(seed=3, prompt="a woman img smiling", weights=(0.5, 2.0)), photos[:2]),
        (job(seed=4, guidance=1.0, start_merge_step=1), photos[3:]),
        (job(seed=5, model="base", prompt="a man", steps=6), []),
        (job(seed=6, width=48, height=24), photos[2:]),
        (job(seed=7, negative_prompt="a hat"), photos),
        (job(seed=8, tenant="other"), photos[:1]),
        (job(seed=9, sampler=Sampling(preset("unipc").schedule, 0.0, 0.25, 0.75, 2, None)), photos[:1]),
        (job(seed=10, guidance=1.0, sampler=Sampling(preset("tcd").schedule, 0.3, 0.0, 1.0, 1, 0.0)), photos[:1]),
    ]
    for event, alone in zip(together(engine, *todo), todo, strict=True):
        assert np.abs(pixels(event) - pixels(together(engine, alone)[0])).max() <= 1


def test_budget_of_pixels_and_rows_bounds_a_batch(config, engine, photos):
    from serving.engine.loop import Batcher

    sizes = []

    class Watch(MemoryRecorder):
        def record(self, name, value=1.0, **tags):
            if name == "pm_batch_images":
                sizes.append(value)

    limited = dataclasses.replace(config.engine, pixel_budget=3 * 2 * 32 * 32, max_rows=16)
    old, engine.batcher = engine.batcher, Batcher(engine.pipeline, limited, engine.cache, Watch())
    try:
        together(engine, *((job(seed=i), photos[:1]) for i in range(7)))
        assert max(sizes) == 3 and sum(sizes) == 7 * 4
        sizes.clear()
        together(engine, *((job(seed=i, guidance=1.0), photos[:1]) for i in range(7)))
        assert max(sizes) == 6
        sizes.clear()
        # One that is larger than the whole budget is made all the same, alone.
        together(engine, (job(width=128, height=128), photos[:1]), (job(), photos[:1]))
        assert set(sizes) == {1}
    finally:
        engine.batcher.stop()
        engine.batcher = old


def test_the_loop_goes_on_stepping_while_images_are_decoded(engine, photos, monkeypatch):
    batcher, go, begun = engine.batcher, threading.Event(), threading.Event()
    plain = batcher.decoder._decode

    def slow(latents):
        begun.set()
        assert go.wait(20)
        return plain(latents)

    monkeypatch.setattr(batcher.decoder, "_decode", slow)

    async def run():
        first = asyncio.create_task(make(engine, job(steps=2), photos[:1]))
        await asyncio.to_thread(begun.wait, 20)
        at = batcher.steps
        second = asyncio.create_task(make(engine, job(seed=2, steps=5), photos[:1]))
        while batcher.steps < at + 5:
            await asyncio.sleep(0.01)
        assert not first.done() and not second.done()
        go.set()
        return await asyncio.gather(first, second)

    for event in asyncio.run(run()):
        assert pixels(event).shape == (32, 32, 3)


def test_who_leaves_frees_the_place_within_two_steps_and_others_are_unchanged(engine, photos, monkeypatch):
    batcher, other = engine.batcher, (job(seed=9, steps=60), photos[:1])
    removed, remove = [], batcher.sampler.remove
    # As of the loop's own thread: this one may be late.
    monkeypatch.setattr(batcher.sampler, "remove", lambda key: (removed.append(batcher.steps), remove(key)))

    async def go():
        stays = asyncio.create_task(make(engine, *other))
        leaves = [asyncio.create_task(make(engine, job(seed=i, steps=90), photos[:1])) for i in range(3)]
        while len(batcher._rows) < 4:
            await asyncio.sleep(0.01)
        for task in leaves:
            task.cancel()
        await asyncio.gather(*leaves, return_exceptions=True)
        at = batcher.steps
        while len(batcher._rows) > 1:
            await asyncio.sleep(0)
        return max(removed) - at, await stays

    freed, stayed = asyncio.run(go())
    assert freed <= 2
    assert np.abs(pixels(stayed) - pixels(together(engine, other)[0])).max() <= 1


def test_who_leaves_while_waiting_is_never_begun(engine, photos):
    async def go():
        busy = [asyncio.create_task(make(engine, job(seed=i, steps=40), photos[:1])) for i in range(4)]
        while len(engine.batcher._rows) < 4:
            await asyncio.sleep(0.01)
        waits = asyncio.create_task(make(engine, job(seed=9), photos[:1]))
        while not engine.batcher._waiting:
            await asyncio.sleep(0.01)
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        for event in await asyncio.gather(*busy):
            pixels(event)

    asyncio.run(go())
    assert not engine.batcher._waiting and not engine.batcher._rows


def test_bad_rows_end_alone(engine, photos):
    """One is refused, one becomes NaN on its way, one fails in the model; the fourth does not notice."""
    good = (job(seed=3, steps=12), photos[:1])
    bad = [(job(prompt="a man"), photos[:1]), (job(seed=5, steps=12), photos[1:2]), (job(seed=6, width=40), photos[:1])]

    async def go():
        tasks = [asyncio.create_task(make(engine, *todo)) for todo in (good, *bad)]
        while len(engine.batcher._rows) < 3:
            await asyncio.sleep(0.001)

        def poison():
            row = next(row for row, t in engine.batcher._rows.items() if t.request.seed == 5)
            engine.batcher.sampler._active[row].latents.fill_(float("nan"))

        def explode():
            row = next(row for row, t in engine.batcher._rows.items() if t.request.seed == 6)
            active = engine.batcher.sampler._active[row]
            active.latents = active.latents[:1]

        for act in (poison, explode):
            await asyncio.wrap_future(engine.batcher.call(act))
        return await asyncio.gather(*tasks)

    made, refused, nan, broken = asyncio.run(go())
    assert (refused["type"], refused["kind"]) == ("error", "invalid") and "trigger" in refused["message"]
    assert (nan["type"], nan["kind"]) == ("error", "failed")
    assert (broken["type"], broken["kind"]) == ("error", "failed")
    assert np.abs(pixels(made) - pixels(together(engine, good)[0])).max() <= 1
    assert engine.batcher.alive


def test_identities_are_embedded_once_for_each_tenant(engine, photos, monkeypatch):
    calls = []
    embed = engine.pipeline.embed
    monkeypatch.setattr(engine.pipeline, "embed", lambda r, adapter: calls.append(len(r)) or embed(r, adapter=adapter))
    engine.cache.clear()
    first = together(engine, *((job(seed=i), photos[:2]) for i in range(3)))
    assert sum(calls) == 2
    again = together(engine, (job(seed=0), photos[:2]))
    assert sum(calls) == 2 and np.abs(pixels(again[0]) - pixels(first[0])).max() <= 1
    together(engine, (job(tenant="other"), photos[:1]))
    assert sum(calls) == 3
    together(engine, (job(model="b"), photos[:1]))
    assert sum(calls) == 4
    together(engine, (job(), photos[1:3]))
    assert sum(calls) == 5


def test_previews_come_in_order_before_the_image(engine, photos):
    async def go():
        return [event async for event in engine.generate(job(steps=12, partials=3), photos[:1])]

    events = asyncio.run(go())
    assert [event.get("index") for event in events] == [0, 1, 2, None]
    shots = [np.asarray(Image.open(io.BytesIO(event["file"]))).astype(float) for event in events]
    assert all(shot.shape == (32, 32, 3) for shot in shots)


def test_pngs_say_what_they_are(engine, photos):
    (event,) = together(engine, (job(seed=77, steps=3), photos[:1]))
    text = Image.open(io.BytesIO(event["file"])).text
    assert "AI-generated" in text["provenance"] and "trainedAlgorithmicMedia" in text["XML:com.adobe.xmp"]
    assert (text["seed"], text["steps"], text["prompt"], text["model"]) == ("77", "3", PROMPT, "a")


def test_adapters_are_swapped_between_steps(engine, config, photos):
    """A row on its way keeps its adapter; its name then means another, or nothing."""
    a, b = config.adapters["a"], config.adapters["b"]
    before_a, before_b = (pixels(together(engine, (job(model=name, steps=30), photos[:1]))[0]) for name in "ab")
    assert np.abs(before_a - before_b).max() > 1

    async def go():
        running = asyncio.create_task(make(engine, job(steps=30), photos[:1]))
        while not engine.batcher._rows:
            await asyncio.sleep(0.001)
        await engine.swap_adapters({"a": b})
        during = await running
        return during, await make(engine, job(steps=30), photos[:1]), await make(engine, job(model="b"), photos[:1])

    try:
        during, after, gone = asyncio.run(go())
        assert np.abs(pixels(during) - before_a).max() <= 1 and np.abs(pixels(after) - before_b).max() <= 1
        assert gone["kind"] == "invalid"
    finally:
        asyncio.run(engine.swap_adapters({"a": a, "b": b}))
    assert np.abs(pixels(together(engine, (job(steps=30), photos[:1]))[0]) - before_a).max() <= 1


def test_an_adapter_with_nan_weights_is_refused_and_the_old_one_stays(engine, config, photos, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    from pm.errors import CheckpointError

    with safe_open(config.adapters["a"], "pt") as opened:
        state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        meta = opened.metadata()
    next(iter(state.values())).view(-1)[0] = float("nan")
    save_file(state, tmp_path / "nan.safetensors", metadata=meta)
    before = pixels(together(engine, (job(), photos[:1]))[0])
    with pytest.raises(CheckpointError):
        asyncio.run(engine.swap_adapters(dict(config.adapters) | {"a": str(tmp_path / "nan.safetensors")}))
    assert np.abs(pixels(together(engine, (job(), photos[:1]))[0]) - before).max() <= 1


def test_a_wrong_user_config_stops_no_running_engine(engine, config, photos):
    """Serve ends a replica whose `reconfigure` raises: right for a new one, not for one that serves."""
    from pm.errors import CheckpointError
    from serving.app import EngineDeployment

    replica = object.__new__(EngineDeployment.func_or_class)
    replica.engine, replica.configured = engine, False
    wrong = {"adapters": {"a": "nowhere.safetensors"}}
    try:
        with pytest.raises(CheckpointError, match="nowhere"):
            asyncio.run(replica.reconfigure(wrong))
        asyncio.run(replica.reconfigure({"adapters": config.adapters}))
        asyncio.run(replica.reconfigure(wrong))
        assert "file" in together(engine, (job(), photos[:1]), (job(model="b"), photos[:1]))[1]
    finally:
        del replica.engine  # a replica stops its engine when it goes


def test_a_stopped_sampler_is_reported_and_ends_its_rows(config):
    from serving.engine.core import Engine
    from serving.errors import EngineStopped

    engine = Engine(config, MemoryRecorder())

    async def go():
        running = asyncio.create_task(make(engine, job(model="base", prompt="a man", steps=100), []))
        while not engine.batcher._rows:
            await asyncio.sleep(0.001)
        engine.stop()
        with pytest.raises(EngineStopped):
            await running
        with pytest.raises(EngineStopped):
            await make(engine, job(model="base", prompt="a man"), [])
        with pytest.raises(RuntimeError):
            engine.check()

    asyncio.run(go())


def test_photos_that_cannot_be_used_are_left_out_with_a_note(config, engine, photos):
    pytest.importorskip("cv2")
    blank = decode(png_of(np.full((40, 40, 3), 128, np.uint8)), config.limits, 1)
    person = decode(png_of(astronaut(512)), config.limits, 0)
    (alone,) = together(engine, (job(preprocess="photo", weights=(2.0,)), [person]))
    (beside,) = together(engine, (job(preprocess="photo", weights=(0.5, 2.0)), [blank, person]))
    assert alone["notes"] == [] and beside["notes"] == ["photo 1: left out (no face found)"]
    assert np.abs(pixels(alone) - pixels(beside)).max() <= 1
    (refused,) = together(engine, (job(preprocess="photo"), [blank, blank]))
    assert refused["type"] == "error" and refused["kind"] == "invalid"
    assert refused["message"].startswith("none of the 2 ID photos can be used: photo 1: no face found; photo 2:")
    old, engine.config = engine.config, dataclasses.replace(config, references="strict")
    try:
        (strict,) = together(engine, (job(preprocess="photo"), [blank, person]))
        assert strict["message"].startswith("photo 1: no face found; use another photo")
    finally:
        engine.config = old


def png_of(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
