"""The running server over HTTP: mutated requests, killed replicas and ingresses, and a mixed load for hours."""

import asyncio
import os
import random
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.soak.asgi import LONGEST, growth, tiny_config, wrong
from benchmarks.soak.mutate import PROMPT, Sent, request

_TOGETHER = 8
_ACCEPTED = {200}
_REFUSED = {429, 503}  # before anything was accepted, with the time to come back
# Headers that Ray Serve's own proxy (2.60) decodes as UTF-8, before anything of ours: on other bytes it answers 500.
_OF_THE_PROXY = (b"x-request-timeout-seconds", b"x-request-id")
_REPLICA = re.compile(r"ServeReplica:\w+:(Engine|Ingress)")


@contextmanager
def running(folder: Path, replicas: int = 1) -> Iterator[int]:
    """A server of the tiny service on a Ray of its own, and its port."""
    from serving.run import start, stop

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tiny_config(folder)
    several = {"min_replicas": replicas, "max_replicas": replicas}
    config = replace(
        config,
        http=replace(config.http, port=port, metrics_port=0),
        engines=replace(config.engines, num_cpus=0.1, **several),
        ingress=replace(config.ingress, num_cpus=0.1, **several),
    )
    start(config)
    try:
        yield port
    finally:
        stop(drain=False)


def as_http(sent: Sent) -> list[bytes]:
    """The bytes of a request, chunk by chunk; a length of its own if it says none."""
    names = {name.lower() for name, _ in sent.headers}
    path = sent.path.encode("utf-8", "surrogatepass") + (b"?" + sent.query if sent.query else b"")
    lines = [sent.method.encode() + b" " + (path or b"/") + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in sent.headers]
    if b"host" not in names:
        lines.append(b"host: test")
    if not names & {b"content-length", b"transfer-encoding"} and not sent.leaves:
        lines.append(b"content-length: %d" % sum(map(len, sent.chunks)))
    if sent.leaves:
        lines.append(b"content-length: %d" % (sum(map(len, sent.chunks)) + 10))
    lines.append(b"connection: close")
    return [b"\r\n".join(lines) + b"\r\n\r\n", *sent.chunks]


async def ask(port: int, sent: Sent) -> tuple[int | None, dict[str, str], bytes]:
    """Send it over a connection of its own; the status is None where no answer came.

    Raises:
        TimeoutError: neither an answer nor an end within `LONGEST` seconds.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**26)
    try:
        with suppress(ConnectionError):  # an answer may come before the body has gone
            for piece in as_http(sent):
                writer.write(piece)
                await writer.drain()
            if sent.leaves:
                return None, {}, b""
            if _odd_length(sent):
                writer.write_eof()  # it may be waiting for more than there is
        answer = b""
        with suppress(ConnectionError):
            answer = await asyncio.wait_for(reader.read(-1), LONGEST)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if not lines[0].startswith("HTTP/"):
        return None, {}, b""
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = _joined(body)
    return int(lines[0].split()[1]), headers, body


def _odd_length(sent: Sent) -> bool:
    return any(name in (b"content-length", b"transfer-encoding", b"expect") for name, _ in sent.headers)


def _joined(body: bytes) -> bytes:
    """Of the chunks of an answer."""
    found = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        count = int(size.split(b";")[0] or b"0", 16)
        found, body = found + body[:count], body[count + 2 :]
        if count == 0:
            break
    return found


def problem_of(sent: Sent, status: int | None, headers: dict[str, str], body: bytes) -> str | None:
    """As `asgi.wrong`, and what the HTTP layer itself may say: no answer to what is no HTTP, and plain text."""
    touched = any(word.startswith(("header", "path", "query", "method", "bytes")) for word in sent.told)
    if status is None:
        return None if sent.leaves or touched else "no answer"
    if status < 500 and touched and not headers.get("content-type", "").startswith("application/json"):
        return None  # by the HTTP layer, in plain text
    return wrong(sent, status, headers, body)


async def storm(port: int, seed: int, count: int, share: float = 0.9) -> dict[str, Any]:
    """Mutated requests, some at a time; statuses and what was wrong."""
    statuses, failures, numbers, proxys = Counter[str](), [], iter(range(count)), 0

    async def one() -> None:
        nonlocal proxys
        for number in numbers:
            sent = request(seed, number, share)
            try:
                status, headers, body = await ask(port, sent)
                problem = problem_of(sent, status, headers, body)
            except TimeoutError:
                status, problem = None, f"no answer within {LONGEST:g} s"
            statuses[str(status)] += 1
            if problem is not None and status == 500 and _of_the_proxy(sent, body):
                proxys += 1
            elif problem is not None:
                failures.append({"number": number, "done": sent.told, "came": problem})

    start = time.monotonic()
    await asyncio.gather(*(one() for _ in range(_TOGETHER)))
    return {
        "seed": seed,
        "requests": count,
        "statuses": dict(sorted(statuses.items())),
        "500 by Ray's proxy": proxys,
        "failed": len(failures),
        "failures": failures[:100],
        "seconds": round(time.monotonic() - start),
    }


def _of_the_proxy(sent: Sent, body: bytes) -> bool:
    return body == b"Internal Server Error" and any(
        name in _OF_THE_PROXY and not value.isascii() for name, value in sent.headers
    )


def replicas() -> dict[int, str]:
    """Processes of this process's Serve that are an Engine or an Ingress."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            match = _REPLICA.search(" ".join(process.cmdline()))
            if match:
                found[process.pid] = match[1]
    return found


async def kills(port: int, seed: int, count: int, pause: float = 5.0) -> dict[str, Any]:
    """Kill random replicas and ingresses under load; every accepted request must be answered with its picture.

    A killed ingress takes its requests with it: Serve's proxy has passed them on and answers 500 in plain text. These
    are counted apart; nothing of ours stands before it that could ask another ingress.

    Args:
        port: of the server.
        seed: of who and when.
        count: how many.
        pause: seconds, at most, between two.
    """
    import httpx

    from benchmarks.soak.mutate import _photo

    chance, killed, statuses, lost = random.Random(seed), Counter[str](), Counter[str](), []
    ended, with_ingress = asyncio.Event(), 0

    async def client(number: int) -> None:
        nonlocal with_ingress
        # No shorter than the server's own limit: what counts is that every answer comes.
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=330) as http:
            for i in range(10**9):
                if ended.is_set():
                    return
                files = [("image[]", ("a.png", _photo(0), "image/png"))]
                data = {"prompt": PROMPT, "seed": str(1000 * number + i), "steps": "4"}
                try:
                    answer = await http.post("/v1/images/edits", data=data, files=files)
                    status = answer.status_code
                    came = answer.text[:200] if status not in _ACCEPTED | _REFUSED else ""
                except httpx.HTTPError as error:
                    status, came = 0, f"{type(error).__name__}: {error}"
                statuses[str(status)] += 1
                if came == "Internal Server Error" and status == 500 and with_ingress < _TOGETHER * killed["Ingress"]:
                    with_ingress += 1
                elif came:
                    lost.append({"seed": data["seed"], "status": status, "came": came, "killed": sum(killed.values())})
                if status in _REFUSED:
                    await asyncio.sleep(float(answer.headers.get("retry-after", 1)))

    start = time.monotonic()
    clients = [asyncio.create_task(client(i)) for i in range(_TOGETHER)]
    while sum(killed.values()) < count:
        await asyncio.sleep(chance.uniform(0, pause))
        found = replicas()
        if not found:
            continue
        pid = chance.choice(sorted(found))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed[found[pid]] += 1
    await asyncio.sleep(pause)
    ended.set()
    await asyncio.gather(*clients)
    return {
        "seed": seed,
        "killed": dict(killed),
        "statuses": dict(statuses),
        "lost with an ingress": with_ingress,
        "lost": lost[:100],
        "failed": len(lost),
        "seconds": round(time.monotonic() - start),
    }


async def load(port: int, seed: int, minutes: float) -> dict[str, Any]:
    """Valid and odd requests for a time, while the processes' memory, files and threads are followed."""
    along: dict[str, list[dict[str, float]]] = {"Engine": [], "Ingress": []}
    until, number, failures, statuses = time.monotonic() + 60 * minutes, 0, [], Counter[str]()

    async def follow() -> None:
        while time.monotonic() < until:
            for pid, kind in replicas().items():
                with suppress(psutil.Error):
                    process = psutil.Process(pid)
                    facts = {"mib": process.memory_info().rss / 2**20, "handles": process.num_fds()}
                    along[kind].append(facts | {"threads": process.num_threads()})
            await asyncio.sleep(60 * minutes / 200)

    following = asyncio.create_task(follow())
    while time.monotonic() < until:
        found = await storm(port, seed + number, 200, share=0.3)
        number += 1
        failures += found["failures"]
        statuses.update(found["statuses"])
    await following
    grown = {
        kind: {name: round(growth([each[name] for each in facts]), 3) for name in ("mib", "handles", "threads")}
        for kind, facts in along.items()
    }
    return {
        "seed": seed,
        "minutes": minutes,
        "requests": 200 * number,
        "statuses": dict(statuses),
        "failed": len(failures),
        "failures": failures[:100],
        "growth": grown,
        "flat": all(value < 0.05 for facts in grown.values() for value in facts.values()),
    }
