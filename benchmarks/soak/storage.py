"""An S3 on the loopback that answers some requests with an error, or not at all."""

import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


class Failing:
    """A WSGI application in front of another one.

    Args:
        app: the other one.
        share: of the requests that fail.
        seed: of which ones.
    """

    def __init__(self, app: Callable[..., Any], share: float, seed: int) -> None:
        self.share, self.counts = share, Counter[str]()
        self._app, self._random, self._lock = app, random.Random(seed), threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        with self._lock:
            fails, how = self._random.random() < self.share, self._random.choice(("503", "500", "after"))
            self.counts["failed" if fails else "answered"] += 1
        if not fails:
            return self._app(environ, start_response)
        if how == "after":  # it is done, and the client does not learn of it
            list(self._app(environ, lambda *_: None))
        else:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status = "503 Slow Down" if how != "500" else "500 Internal Server Error"
        start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(_BUSY)))])
        return [_BUSY]


@contextmanager
def failing_s3(share: float, seed: int) -> Iterator[tuple[tuple[str, str], Counter[str]]]:
    """A bucket in memory; the URI before and after a run's name, and what was answered."""
    import boto3
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    front = Failing(DomainDispatcherApplication(create_backend_app), 0.0, seed)
    server = make_server("127.0.0.1", 0, front, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    before = {name: os.environ.get(name) for name in _ACCOUNT}
    os.environ.update(_ACCOUNT)
    thread.start()
    try:
        place = f"127.0.0.1:{server.server_port}"
        boto3.client("s3", endpoint_url=f"http://{place}").create_bucket(Bucket="runs")
        front.share = share
        options = f"?scheme=http&endpoint_override={place}&region=us-east-1"
        yield ("s3://test:test@runs", options), front.counts
    finally:
        server.shutdown()
        thread.join()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
