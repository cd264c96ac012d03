"""A service whose U-Net is a wait from a table, and all else real: what HTTP, batching and routing cost and bring.

    python benchmarks/simulated.py                                 # one engine and the application in this process
    python benchmarks/simulated.py --ray --engines 1,4,16          # the deployed service; a quiet hour
    python benchmarks/simulated.py --scale 0.05 --seconds 2        # whether it runs at all

    alone     one image after the other: in process, and over HTTP
    peak      as many images as are asked for: in process, and over HTTP
    batching  images join between steps, against batches that begin and end together (not with --ray)
    loads     Poisson arrivals of mixed sizes and steps at 50, 80 and 95 % of the peak, for each number of engines
    overload  Poisson arrivals at ten times the peak: what is answered in time, against the peak
    zero      the first image from no engine at all (with --ray)

The engines are those of the toon base; `--table` says how long a step takes on a card (`benchmarks/step_times.json`:
assumed, as long as nobody has measured one). Rows are written to `simulated.json` as they come, and
`benchmarks/capacity.py` is fitted to them.
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
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pm.files import write_bytes  # noqa: E402
from serving.config import ServeConfig, load  # noqa: E402
from serving.jobs import Job  # noqa: E402

PHOTOS = sorted((ROOT / "assets/toon/examples").glob("*.png"))
LOADS = (0.5, 0.8, 0.95)
_LEAST = 4  # arrivals to be expected, however short the time
Make = Callable[[int], Awaitable[int]]  # a number -> the status of its answer


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a request asks for; `size`: pixels, as a share of those that the base was trained for."""

    share: float
    steps: int
    width: int
    height: int

    def as_model(self, resolution: int) -> dict[str, Any]:
        """As `benchmarks/capacity.py` has it."""
        size = self.width * self.height / resolution**2
        return {"share": self.share, "steps": self.steps, "size": size, "lines": 2}


KINDS = (Kind(0.6, 30, 64, 64), Kind(0.2, 25, 88, 64), Kind(0.2, 50, 64, 64))


class Asker:
    """Requests of mixed kinds, drawn from a seed."""

    def __init__(self, kinds: Sequence[Kind], seed: int = 0) -> None:
        self.kinds, self._rng = kinds, random.Random(seed)
        self._drawn: list[Kind] = []

    def kind(self, number: int) -> Kind:
        while len(self._drawn) <= number:
            self._drawn += self._rng.choices(self.kinds, [kind.share for kind in self.kinds])
        return self._drawn[number]


def photo_of(number: int) -> tuple[str, Path]:
    """The word for the person, and a photo."""
    file = PHOTOS[number % len(PHOTOS)]
    return file.name.split("_")[0], file


class InProcess:
    """An engine without HTTP."""

    def __init__(self, engine: Any, config: ServeConfig, asker: Asker) -> None:
        from serving.http.photos import decode

        self.engine, self.config, self.asker = engine, config, asker
        self._photos = [decode(file.read_bytes(), config.limits, 0) for file in PHOTOS]

    async def make(self, number: int) -> int:
        kind, (word, _) = self.asker.kind(number), photo_of(number)
        job = Job(
            request_id=str(number),
            tenant="benchmark",
            model=next(iter(self.config.adapters)),
            prompt=f"a {word} img wearing a red hoodie",
            negative_prompt=None,
            seed=number,
            steps=kind.steps,
            guidance=self.config.sampler.guidance,
            start_merge_step=None,
            weights=None,
            width=kind.width,
            height=kind.height,
            preprocess="auto",
            pick="largest",
            partials=0,
        )
        async for event in self.engine.generate(job, [self._photos[number % len(PHOTOS)]]):
            last = event
        return 200 if last["type"] == "image" else 500


class Http:
    """The application, in this process or at an address."""

    def __init__(self, client: Any, asker: Asker) -> None:
        self.client, self.asker = client, asker

    async def make(self, number: int) -> int:
        kind, (word, file) = self.asker.kind(number), photo_of(number)
        files = [("image[]", (file.name, file.read_bytes(), "image/png"))]
        fields = {
            "prompt": f"a {word} img wearing a red hoodie",
            "seed": str(number),
            "steps": str(kind.steps),
            "size": f"{kind.width}x{kind.height}",
        }
        answer = await self.client.post("/v1/images/edits", data=fields, files=files)
        return int(answer.status_code)


async def closed(make: Make, clients: int, images: int) -> dict[str, float]:
    """`clients` that each ask again as soon as they have an answer."""
    numbers, latencies, begin = iter(range(images)), list[float](), time.perf_counter()

    async def client() -> None:
        for number in numbers:
            start = time.perf_counter()
            code = await make(number)
            if code != 200:
                raise RuntimeError(f"an image was answered with {code}")
            latencies.append(time.perf_counter() - start)

    await asyncio.gather(*(client() for _ in range(clients)))
    taken = time.perf_counter() - begin
    return {"images_per_s": images / taken, "latency_s": statistics.median(latencies)}


async def opened(make: Make, rate: float, seconds: float, seed: int = 0) -> dict[str, float]:
    """Poisson arrivals of `rate` a second, whatever happens; the first fifth warms up."""
    rng, begin, tasks = random.Random(seed), time.perf_counter(), list[asyncio.Task]()

    async def one(number: int) -> tuple[float, int, float]:
        start = time.perf_counter()
        code = await make(number)
        return start - begin, code, time.perf_counter() - start

    due = begin
    while (due := due + rng.expovariate(rate)) < begin + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(len(tasks))))
    answers = await asyncio.gather(*tasks)
    whole = time.perf_counter() - begin
    codes = Counter(code for _, code, _ in answers)
    took = sorted(taken for start, code, taken in answers if code == 200 and start >= seconds / 5)
    found: dict[str, float] = {"rate": rate, "sent": len(answers), "answered": codes[200], "refused": codes[429]}
    found |= {"other": len(answers) - codes[200] - codes[429], "goodput": codes[200] / whole}
    return found | ({f"p{n}": took[min(len(took) - 1, n * len(took) // 100)] for n in (50, 90, 99)} if took else {})


def settings(options: argparse.Namespace, table: Path) -> ServeConfig:
    """The service of one card's engines."""
    own = [f"engine.step_times={table}", f"engine.max_rows={options.rows}", "engine.threads=1", "engine.png_level=1"]
    own += ["engine.pixel_budget=100000000", f"engine.lookahead={options.rows}", "engine.device=cpu"]
    own += [f"limits.in_flight_images={8 * options.rows * max(options.engines)}", "limits.size=128"]
    own += [f"engines.target_ongoing_requests={options.rows}", "engines.num_cpus=0.05", "ingress.num_cpus=0.05"]
    return load([*own, *options.overrides])


def scaled(options: argparse.Namespace) -> Path:
    """The table with every wait times `--scale`, as a file."""
    content = json.loads(options.table.read_text())
    for each in content["steps"]:
        each["seconds"] *= options.scale
    content["about"] += f"; times {options.scale:g}" if options.scale != 1 else ""
    file: Path = options.output / "step_times.json"
    write_bytes(file, json.dumps(content, indent=1).encode())
    return file.absolute()


class Bench:
    """Measures part by part and keeps what was found."""

    def __init__(self, options: argparse.Namespace) -> None:
        options.output.mkdir(parents=True, exist_ok=True)
        self.options = options
        self.table = scaled(options)
        self.config = settings(options, self.table)
        self.asker, self.found = Asker(KINDS), dict[str, Any]()
        kinds = [kind.as_model(64) for kind in KINDS]
        about = json.loads(self.table.read_text())["about"]
        self.note("about", {"step_times": str(self.table), "table": about, "kinds": kinds, "max_rows": options.rows})

    def note(self, part: str, value: Any) -> None:
        self.found[part] = value
        write_bytes(self.options.output / "simulated.json", json.dumps(self.found, indent=1).encode())
        for row in value if isinstance(value, list) else [value]:
            cells = [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items() if k != "kinds"]
            print(f"{part}: {', '.join(cells)}", flush=True)

    async def local(self) -> None:
        """All that needs no Ray."""
        import httpx

        from serving.engine.backend import LocalBackend
        from serving.engine.core import Engine
        from serving.http.quota import LocalQuotas
        from serving.http.routes import create_app
        from serving.http.service import Service
        from serving.metrics import MemoryRecorder

        recorder, limits = MemoryRecorder(), self.config.limits
        engine = Engine(self.config, recorder)
        quotas = LocalQuotas(limits.request_s, limits.retry_after_s)
        service = Service(self.config, LocalBackend(engine), MemoryRecorder(), quotas, None)
        transport = httpx.ASGITransport(create_app(service))
        try:
            async with httpx.AsyncClient(
                transport=transport, base_url="http://local", timeout=limits.request_s
            ) as client:
                await self.one_engine(engine, InProcess(engine, self.config, self.asker), Http(client, self.asker))
        finally:
            engine.stop()

    async def one_engine(self, engine: Any, inside: InProcess, http: Http) -> None:
        rows, seconds = self.options.rows, self.options.seconds
        for each in (inside, http):
            await closed(each.make, 2, 2)  # warms up
        lone = Asker(KINDS[:1])
        engine_alone = InProcess(engine, self.config, lone)
        at, count = self._steps(engine), max(2, self.options.images // 8)
        alone = await closed(engine_alone.make, 1, count)
        took, steps = self._steps(engine)[0] - at[0], self._steps(engine)[1] - at[1]
        over = await closed(Http(http.client, lone).make, 1, count)
        ratio = {"http_latency_s": over["latency_s"], "overhead": over["latency_s"] / alone["latency_s"]}
        self.note("alone", alone | {"step_s": took / steps} | ratio)
        peaks = [await closed(each.make, 3 * rows, self.options.images) for each in (inside, http, inside, http)]
        most = [max(peaks[i]["images_per_s"], peaks[i + 2]["images_per_s"]) for i in (0, 1)]
        self.note("peak", {"images_per_s": most[1], "in_process": most[0], "overhead": most[0] / most[1]})
        if "batching" in self.options.parts:
            await self.batching(engine, http, most[1])
        if "loads" in self.options.parts:
            self.note("loads", [await self.at(http.make, load, most[1], 1) for load in LOADS])
        if "overload" in self.options.parts:
            over_load = await opened(http.make, 10 * most[1], seconds)
            self.note("overload", over_load | {"ratio": over_load["goodput"] / most[1]})

    @staticmethod
    def _steps(engine: Any) -> tuple[float, int]:
        """Seconds in steps and their number, so far."""
        return engine.recorder.values["pm_step_seconds",], engine.batcher.steps

    async def at(self, make: Make, load: float, peak: float, engines: int) -> dict[str, float]:
        rate = load * peak
        found = await opened(make, rate, max(self.options.seconds, _LEAST / rate))
        return {"engines": engines, "load": load} | found

    async def batching(self, engine: Any, http: Http, peak: float) -> None:
        """The same load on batches that images join and leave, and on such that begin and end together."""
        batcher, found = engine.batcher, []
        joins = batcher._next
        for static in (False, True):
            if static:
                batcher._next = lambda: [] if batcher._rows else joins()
            most = await closed(http.make, 3 * self.options.rows, self.options.images)
            row = await self.at(http.make, 0.5, peak, 1)
            found.append({"static": static, "peak": most["images_per_s"]} | row)
        batcher._next = joins
        self.note("batching", found)

    async def deployed(self, engines: int) -> None:
        """Through Ray, with so many engines."""
        scale = dataclasses.replace(self.config.engines, min_replicas=engines, max_replicas=engines)
        async with served(dataclasses.replace(self.config, engines=scale)) as client:
            http = Http(client, self.asker)
            await closed(http.make, 2 * engines, 4 * engines)
            count = self.options.images * engines
            peak = (await closed(http.make, 3 * self.options.rows * engines, count))["images_per_s"]
            rows = [await self.at(http.make, load, peak, engines) for load in LOADS]
            self.note("loads", self.found.get("loads", []) + rows)
            over = await opened(http.make, 10 * peak, self.options.seconds)
            self.note(f"overload of {engines}", over | {"peak": peak, "ratio": over["goodput"] / peak})

    async def zero(self) -> None:
        """The first image of a service without engines, and how many engines a burst brings."""
        most = max(self.options.engines)
        scale = dataclasses.replace(self.config.engines, min_replicas=0, max_replicas=most, upscale_delay_s=1.0)
        async with served(dataclasses.replace(self.config, engines=scale)) as client:
            http = Http(client, self.asker)
            first = await closed(http.make, 1, 1)
            again = await closed(http.make, 1, 1)
            self.note("zero", {"first_image_s": first["latency_s"], "next_image_s": again["latency_s"]})


@contextlib.asynccontextmanager
async def served(config: ServeConfig) -> AsyncIterator[Any]:
    """A client of the deployed service."""
    import httpx

    from serving.run import start, stop

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    http = dataclasses.replace(config.http, port=port, metrics_port=0)
    await asyncio.to_thread(start, dataclasses.replace(config, http=http))
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=600, limits=limits) as client:
            yield client
    finally:
        await asyncio.to_thread(stop)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    bench = Bench(options)
    await bench.local()
    if options.ray:
        for engines in options.engines:
            await bench.deployed(engines)
        await bench.zero()
    return bench.found


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=ROOT / "benchmarks/step_times.json")
    parser.add_argument("--scale", type=float, default=1.0, help="of every wait")
    parser.add_argument("--rows", type=int, default=8, help="images that an engine samples together")
    parser.add_argument("--images", type=int, default=48, help="of a measurement of the peak, for each engine")
    parser.add_argument("--seconds", type=float, default=120, help="of arrivals")
    parser.add_argument("--parts", default="batching,loads,overload", help="beside alone and peak, which all need")
    parser.add_argument("--ray", action="store_true", help="the deployed service, too")
    parser.add_argument("--engines", type=lambda text: [int(each) for each in text.split(",")], default=[1, 4, 16])
    parser.add_argument("--output", type=Path, default=Path("runs/simulated"))
    parser.add_argument("overrides", nargs="*", help="of conf/serve.yaml")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    asyncio.run(measure(parsed()))
