"""What serving costs, as ratios within one run: `python benchmarks/serving.py [--parts a,b,c,d,e] [--output FILE]`.

    (a) eight requests for different people together, against one at a time
    (b) the pipeline against a plain diffusers StableDiffusionXLPipeline of the same size: what identity costs
    (c) HTTP + Ray against the engine in this process, at 1, 4 and 16 clients
    (d) the first image from zero engines, against one of a running engine
    (e) images that are answered at ten times the load that can be served, against the most that can be

All of it on the toon base and the shipped adapter, 64 x 64 px; nothing is downloaded.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import random
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pm.cpus import available_cpus  # noqa: E402
from serving.config import ServeConfig, load  # noqa: E402
from serving.jobs import Job, Photo  # noqa: E402

PROMPT = "a {word} img wearing a red hoodie"
PEOPLE = 16


class Person(NamedTuple):
    """Somebody with a few photos."""

    word: str
    files: list[bytes]


def people(photos: int = 4) -> list[Person]:
    """Different toon people, none of them in any training."""
    from pm.toon.world import write_photos

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "photos"
        settings = {"seed": 5, "split": "eval", "size": 128, "progress": False}
        write_photos(root, identities=PEOPLE, photos_per_identity=photos, **settings)
        found = []
        for identity in sorted(path for path in root.iterdir() if path.is_dir()):
            files = [file.read_bytes() for file in sorted(identity.glob("*.png"))]
            found.append(Person(identity.name.rsplit("_", 1)[-1], files))
    return found


def timed(*actions: Callable[[], object], repeats: int = 5) -> list[float]:
    """Median seconds of each, in turns, so that all see the same machine; the first turn does not count."""
    times = [[] for _ in actions]
    for _ in range(1 + repeats):
        for action, taken in zip(actions, times, strict=True):
            begin = time.perf_counter()
            action()
            taken.append(time.perf_counter() - begin)
    return [statistics.median(taken[1:]) for taken in times]


class InProcess:
    """The engine without HTTP and Ray."""

    def __init__(self, config: ServeConfig, persons: list[Person]) -> None:
        from serving.engine.core import Engine
        from serving.http.photos import decode
        from serving.metrics import MemoryRecorder

        self.config, self.recorder = config, MemoryRecorder()
        self.engine = Engine(config, self.recorder)
        self.photos: list[list[Photo]] = [
            [decode(data, config.limits, i) for i, data in enumerate(person.files)] for person in persons
        ]
        self.persons = persons

    async def image(self, number: int) -> None:
        who, sampler = number % PEOPLE, self.config.sampler
        job = Job(
            request_id=str(number),
            tenant="benchmark",
            model=next(iter(self.config.adapters)),
            prompt=PROMPT.format(word=self.persons[who].word),
            negative_prompt=None,
            seed=number,
            steps=sampler.steps,
            guidance=sampler.guidance,
            start_merge_step=None,
            weights=None,
            width=None,
            height=None,
            preprocess="auto",
            pick="largest",
            partials=0,
        )
        async for event in self.engine.generate(job, self.photos[who]):
            assert event["type"] == "image", event


class Http:
    """The running server; `async with` opens connections."""

    def __init__(self, url: str, persons: list[Person]) -> None:
        self.url, self.persons = url, persons

    async def __aenter__(self) -> "Http":
        import httpx

        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self.client = httpx.AsyncClient(base_url=self.url, timeout=600, limits=limits)
        return self

    async def __aexit__(self, *error) -> None:
        await self.client.aclose()

    async def post(self, number: int) -> int:
        person = self.persons[number % PEOPLE]
        files = [("image[]", ("photo.png", data, "image/png")) for data in person.files]
        fields = {"prompt": PROMPT.format(word=person.word), "seed": str(number)}
        answer = await self.client.post("/v1/images/edits", data=fields, files=files)
        return answer.status_code

    async def image(self, number: int) -> None:
        code = await self.post(number)
        assert code == 200, code


async def closed(image: Callable[[int], Awaitable[None]], clients: int, images: int) -> float:
    """Images per second of `clients` that each ask again as soon as they have an answer."""
    numbers = iter(range(images))

    async def client() -> None:
        for number in numbers:
            await image(number)

    begin = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return images / (time.perf_counter() - begin)


async def opened(http: Http, rate: float, seconds: float) -> dict[str, float]:
    """Requests at random times, `rate` a second whatever happens; answers within the time count."""
    rng, tasks, begin = random.Random(0), [], time.perf_counter()
    while time.perf_counter() - begin < seconds:
        tasks.append(asyncio.create_task(http.post(len(tasks))))
        await asyncio.sleep(rng.expovariate(rate))
    codes = Counter(await asyncio.gather(*tasks))
    goodput = codes[200] / (time.perf_counter() - begin)
    other = len(tasks) - codes[200] - codes[429]
    return {"sent": len(tasks), "answered": codes[200], "refused": codes[429], "other": other, "goodput": goodput}


def part_a(local: InProcess) -> dict[str, float]:
    def run(clients: int) -> Callable[[], object]:
        return lambda: asyncio.run(closed(local.image, clients, 8))

    one, eight = timed(run(1), run(8), repeats=3)
    return {"one at a time, images/s": 8 / one, "together, images/s": 8 / eight, "ratio": one / eight}


def part_b(local: InProcess) -> dict[str, float]:
    import torch
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline

    config, sampler = local.config, local.config.sampler
    torch.set_num_threads(config.engine.threads or available_cpus())
    plain = StableDiffusionXLPipeline.from_pretrained(
        config.base.path, torch_dtype=torch.float32, local_files_only=True
    )
    plain.scheduler = DDIMScheduler.from_config(plain.scheduler.config)
    plain.set_progress_bar_config(disable=True)
    side = local.engine.pipeline.base.resolution

    def diffusers() -> None:
        settings = {"num_inference_steps": sampler.steps, "guidance_scale": sampler.guidance}
        plain("a woman wearing a red hoodie", height=side, width=side, **settings)

    def ours() -> None:
        local.engine.cache.clear()
        asyncio.run(local.image(0))

    def cached() -> None:
        asyncio.run(local.image(0))

    base, new, known = timed(diffusers, ours, cached)
    times = {"diffusers, s": base, "4 new photos, s": new, "4 known photos, s": known}
    return times | {"ratio, new": new / base, "ratio, known": known / base}


def part_c(local: InProcess, url: str) -> dict[str, float]:
    async def outside(clients: int, images: int) -> float:
        async with Http(url, local.persons) as http:
            await closed(http.image, clients, min(clients, 2))
            return await closed(http.image, clients, images)

    found = {}
    for clients in (1, 4, 16):
        images, inside, through = max(8, 2 * clients), [], []
        asyncio.run(closed(local.image, clients, clients))
        for _ in range(3):  # taken in turns, so that both see the same machine
            inside.append(asyncio.run(closed(local.image, clients, images)))
            through.append(asyncio.run(outside(clients, images)))
        found[f"{clients} clients: in process, images/s"] = statistics.median(inside)
        found[f"{clients} clients: HTTP + Ray, images/s"] = statistics.median(through)
        found[f"{clients} clients: ratio of times"] = statistics.median(inside) / statistics.median(through)
    return found


def part_d(config: ServeConfig, persons: list[Person]) -> dict[str, float]:
    scale = dataclasses.replace(config.engines, min_replicas=0)
    with server(dataclasses.replace(config, engines=scale)) as url:

        async def go() -> tuple[float, float]:
            async with Http(url, persons) as http:
                begin = time.perf_counter()
                await http.image(0)
                cold = time.perf_counter() - begin
                begin = time.perf_counter()
                await http.image(1)
                return cold, time.perf_counter() - begin

        cold, warm = asyncio.run(go())
    return {"from zero engines, s": cold, "running engine, s": warm, "ratio": cold / warm}


def part_e(url: str, persons: list[Person]) -> dict[str, float]:
    async def go() -> dict[str, float]:
        async with Http(url, persons) as http:
            await closed(http.image, 16, 16)
            peak = max([await closed(http.image, 24, 48) for _ in range(2)])
            found = await opened(http, 10 * peak, 20)
        return {"peak, images/s": peak} | found | {"ratio of goodput to peak": found["goodput"] / peak}

    return asyncio.run(go())


@contextlib.contextmanager
def server(config: ServeConfig) -> Iterator[str]:
    """The service on free ports; its URL."""
    from serving.run import start, stop

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    http = dataclasses.replace(config.http, port=port, metrics_port=0)
    start(dataclasses.replace(config, http=http))
    try:
        yield f"http://127.0.0.1:{http.port}"
    finally:
        stop()


def main() -> None:
    """Measure the parts asked for, print them as tables, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="a,b,c,d,e")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/serving.json"))
    parser.add_argument("overrides", nargs="*", help="of conf/serve.yaml, for example sampler.steps=10")
    options = parser.parse_args()
    parts, config, persons, found = set(options.parts.split(",")), load(options.overrides), people(), {}

    def note(part: str, values: dict[str, float]) -> None:
        found[part] = values
        print(f"\n({part})")
        for name, value in values.items():
            print(f"| {name} | {value:.4g} |", flush=True)

    local = InProcess(config, persons) if parts & set("abc") else None
    if "a" in parts:
        note("a", part_a(local))
    if "b" in parts:
        note("b", part_b(local))
    if parts & set("ce"):
        with server(config) as url:
            if "c" in parts:
                note("c", part_c(local, url))
            if "e" in parts:
                note("e", part_e(url, persons))
    if "d" in parts:
        note("d", part_d(config, persons))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=2) + "\n")
    if local:
        local.engine.stop()


if __name__ == "__main__":
    main()
