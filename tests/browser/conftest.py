"""One browser for all tests, and one service with the toon base, in this process."""

import dataclasses
import os
import socket
import threading
import time

import pytest
from support.browser import PATIENCE_MS, Watched, chromium, missing

WHY = missing()


def pytest_collection_modifyitems(items):
    for item in items:
        if WHY is not None and "tests/browser/" in item.path.as_posix():
            item.add_marker(pytest.mark.skip(reason=WHY))


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE_MS)
    with chromium() as found:
        yield found


@dataclasses.dataclass
class Studio:
    """A running service."""

    url: str
    service: object
    engine: object

    @property
    def page(self) -> str:
        return f"{self.url}/studio"


@pytest.fixture(scope="session")
def studio(tmp_path_factory):
    """The service as `make studio` starts it, without Ray: the toon base, and folders with something in them."""
    import uvicorn
    from support.api import local_service
    from support.places import write_places, write_run

    from serving.config import load
    from serving.engine.core import Engine
    from serving.http.routes import create_app
    from serving.metrics import MemoryRecorder

    places = write_places(tmp_path_factory.mktemp("places"))
    write_run(places / "runs" / "first", 40, 40, pictures=3, lr_lora=1e-4)
    second = write_run(places / "runs" / "second", 25, 40, pictures=2, lr_lora=3e-4)
    for path in [second, *second.rglob("*")]:  # nothing has come for an hour: it was interrupted
        os.utime(path, (time.time() - 3600,) * 2)
    folders = [f"studio.runs={places}/runs", f"studio.data={places}/data"]
    config = load(["studio=local", *folders, "sampler.steps=6", "engine.threads=1"])
    engine = Engine(config, MemoryRecorder())
    service = local_service(engine, config)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(create_app(service), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield Studio(f"http://127.0.0.1:{port}", service, engine)
    server.should_exit = True
    thread.join(10)
    engine.stop()


@pytest.fixture
def visitor(browser, studio):
    """`visitor(path, **context)`: a page of somebody new. At the end: no error, and no other host was asked."""
    contexts, seen = [], []

    def open_page(path="#portraits", context=None, **options):
        if context is None:
            usual = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
            context = browser.new_context(**usual | options)
            context.set_default_timeout(PATIENCE_MS)
            contexts.append(context)
        watched = Watched(context.new_page())
        seen.append(watched)
        watched.page.goto(f"{studio.page}{path}")
        watched.page.wait_for_selector(".page:not([aria-busy])")
        return watched.page

    open_page.seen = seen
    yield open_page
    for context in contexts:
        context.close()
    for watched in seen:
        assert watched.errors == []
        asked = [address for address in watched.addresses if not address.startswith((studio.url, "blob:", "data:"))]
        assert asked == []
