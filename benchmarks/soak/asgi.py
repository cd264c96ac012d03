"""Mutated requests against the application in this process, around a real engine on a tiny base."""

import asyncio
import gc
import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.fullsize.models import write_adapter
from benchmarks.soak.mutate import Sent, request

LONGEST = 60.0  # seconds until a request counts as hanging
_TOGETHER = 8
_JSON_FREE = ("/docs", "/openapi.json", "/static", "/redoc", "/studio")


@dataclass
class Report:
    """What came of a run."""

    seed: int
    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)  # number, what was done to it, what came
    memory: list[float] = field(default_factory=list)  # MiB, along the way
    handles: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "requests": self.requests,
            "statuses": {str(k): v for k, v in sorted(self.statuses.items())},
            "failures": self.failures[:100],
            "failed": len(self.failures),
            "memory_mib": self.memory,
            "handles": self.handles,
            "threads": self.threads,
            "seconds": round(self.seconds, 1),
        }

    def note_process(self) -> None:
        """Memory, open files and threads now."""
        gc.collect()
        process = psutil.Process()
        self.memory.append(round(process.memory_info().rss / 2**20, 1))
        self.handles.append(process.num_fds())
        self.threads.append(process.num_threads())


class Defects(logging.Handler):
    """Errors that the service logged: an unexpected exception is one, whatever the client was told."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.format(record)[-3000:])


def tiny_config(folder: Path) -> Any:
    """The service on a base of 32 px with two adapters of random weights, `a` and `b`; written on first use."""
    from pm.toon.base import write_random_base
    from serving.config import load

    base = folder / "base"
    if not base.exists():
        write_random_base(base, size="tiny", seed=0)
    files = {name: write_adapter(base, folder / f"{name}.safetensors", i) for i, name in enumerate("ab")}
    given = {"base.path": base, "base.vision_path": base / "image_encoder", "sampler.steps": 2, "limits.steps": 4}
    given |= {"limits.body_s": 2, "engine.threads": 1, "engine.max_rows": 8, "limits.images": 3}
    config = load([f"{key}={value}" for key, value in given.items()])
    return replace(config, adapters={name: str(file) for name, file in files.items()})


def tiny_service(folder: Path) -> tuple[Any, Any]:
    """An engine of `tiny_config` in this process, and a service around it."""
    from serving.engine.backend import LocalBackend
    from serving.engine.core import Engine
    from serving.http.quota import LocalQuotas
    from serving.http.service import Service
    from serving.metrics import MemoryRecorder

    config = tiny_config(folder)
    engine = Engine(config, MemoryRecorder())
    quotas = LocalQuotas(config.limits.request_s, config.limits.retry_after_s)
    return engine, Service(config, LocalBackend(engine), MemoryRecorder(), quotas, None)


async def ask(app: Any, sent: Sent) -> tuple[int | None, dict[str, str], bytes]:
    """One call of the application; the status is None where it sent no answer."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": sent.method,
        "scheme": "http",
        "path": sent.path,
        "raw_path": sent.path.encode("utf-8", "surrogatepass"),
        "query_string": sent.query,
        "root_path": "",
        "headers": [(b"host", b"test"), *sent.headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    chunks, ended = list(sent.chunks), asyncio.Event()
    status: list[int] = []
    headers: dict[str, str] = {}
    body = bytearray()

    async def receive() -> dict[str, Any]:
        if chunks:
            chunk = chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(chunks) or sent.leaves}
        if not sent.leaves:
            await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])
            headers.update((k.decode("latin-1"), v.decode("latin-1")) for k, v in message.get("headers", ()))
        elif message["type"] == "http.response.body":
            body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                ended.set()

    try:
        await asyncio.wait_for(app(scope, receive, send), LONGEST)
    finally:
        ended.set()
    return (status[0] if status else None), headers, bytes(body)


def wrong(sent: Sent, status: int | None, headers: dict[str, str], body: bytes) -> str | None:
    """What is wrong with an answer; None: nothing."""
    if status is None:
        return None if sent.leaves else "no answer"
    if status >= 500:
        return f"{status}: {body[:300]!r}"
    if sent.valid and status not in (200, 307):
        return f"a valid request was refused, {status}: {body[:300]!r}"
    plain = sent.method in ("HEAD", "OPTIONS") or sent.path.startswith(_JSON_FREE)
    if status >= 400 and not plain and status != 499:
        try:
            message = json.loads(body)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            return f"{status} without OpenAI's error: {body[:200]!r}"
        if not message:
            return f"{status} without a reason"
    return None


async def storm(
    service: Any, seed: int, first: int, count: int, told: Callable[[Report], None] = lambda _: None
) -> Report:
    """Send requests `first` … `first + count - 1` of a seed, some at a time.

    Args:
        service: from `tiny_service`.
        seed: of the sequence.
        first: number of the first.
        count: how many.
        told: called now and then with what is known.
    """
    from serving.http.routes import create_app

    app, report, start = create_app(service), Report(seed), time.monotonic()
    defects, numbers = Defects(), iter(range(first, first + count))
    logger = logging.getLogger("ray.serve")
    logger.addHandler(defects)
    every = max(1, count // 20)

    async def one() -> None:
        for number in numbers:
            sent = request(seed, number)
            try:
                status, headers, body = await ask(app, sent)
                problem = wrong(sent, status, headers, body)
            except TimeoutError:
                status, problem = None, f"no answer within {LONGEST:g} s"
            except Exception as error:  # out of the application: a server would answer 500
                status, problem = None, f"{type(error).__name__}: {error}"[:500]
            report.requests += 1
            report.statuses[status or 0] += 1
            if problem is not None:
                report.failures.append({"number": number, "done": sent.told, "came": problem})
            if report.requests % every == 0:
                report.note_process()
                report.seconds = time.monotonic() - start
                told(report)

    try:
        await asyncio.gather(*(one() for _ in range(_TOGETHER)))
        await _nothing_kept(service, report)
    finally:
        logger.removeHandler(defects)
    report.failures += [{"number": None, "done": ["logged"], "came": text} for text in defects.seen]
    report.seconds = time.monotonic() - start
    return report


async def _nothing_kept(service: Any, report: Report) -> None:
    """After the last answer nothing is in flight; rows of clients that left end within some steps."""
    until = time.monotonic() + 10
    rows: Any = service.backend.engine.batcher
    while time.monotonic() < until and (service.in_flight or service.uploads.used or len(rows.sampler)):
        await asyncio.sleep(0.05)
    kept = {"images": service.in_flight, "bytes": service.uploads.used, "rows": len(rows.sampler)}
    if any(kept.values()):
        report.failures.append({"number": None, "done": ["end"], "came": f"kept: {kept}"})


def growth(values: list[float]) -> float:
    """Of the second half's median over that of the quarter before it; the first quarter warms up."""
    quarter = len(values) // 4
    if quarter == 0:
        return 0.0
    early, late = sorted(values[quarter : 2 * quarter]), sorted(values[2 * quarter :])
    return late[len(late) // 2] / early[len(early) // 2] - 1
