"""A Hub on the loopback: repositories are created, commits of small files arrive, files are fetched."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """What was done to it."""

    def __init__(self) -> None:
        self.created: list[dict] = []
        self.files: dict[tuple[str, str], bytes] = {}  # repository and name → contents
        self.url = ""

    def names(self, repo: str) -> list[str]:
        return sorted(name for owner, name in self.files if owner == repo)


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._file(body=False)

        def do_GET(self) -> None:
            self._file(body=True)

        def do_POST(self) -> None:
            data, path = self.rfile.read(int(self.headers.get("content-length", 0))), self.path.partition("?")[0]
            if path == "/api/repos/create":
                wanted = json.loads(data)
                hub.created.append(wanted)
                kind = "datasets/" * (wanted.get("type") == "dataset")
                return self._json({"url": f"{hub.url}/{kind}{wanted['organization']}/{wanted['name']}"})
            if path == "/api/validate-yaml":
                return self._json({"errors": [], "warnings": []})
            if "/preupload/" in path:
                files = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in json.loads(data)["files"]
                ]
                return self._json({"files": files})
            if "/commit/" in path:
                _, _, kind, owner, name, *_ = path.split("/")
                for line in map(json.loads, data.decode().splitlines()):
                    if line["key"] == "file":
                        hub.files[f"{owner}/{name}", line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                place = f"{hub.url}/{'datasets/' * (kind == 'datasets')}{owner}/{name}"
                return self._json({"commitUrl": f"{place}/commit/{COMMIT}", "commitOid": COMMIT, "success": True})
            self._answer(404, b"")

        def _file(self, body: bool) -> None:
            path = unquote(self.path.partition("?")[0]).removeprefix("/datasets")
            parts = path.split("/")
            if "resolve" not in parts:
                if body and path.startswith("/api/"):
                    return self._json({"sha": COMMIT, "id": "me/x", "siblings": [], "private": False, "tags": []})
                return self._answer(404, b"")
            key = "/".join(parts[1:3]), "/".join(parts[5:])
            if key not in hub.files:
                code = "EntryNotFound" if any(repo == key[0] for repo, _ in hub.files) else "RepoNotFound"
                return self._answer(404, b"", {"X-Error-Code": code, "X-Repo-Commit": COMMIT})
            data = hub.files[key]
            about = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
            self._answer(200, data if body else b"", about, len(data))

        def _json(self, value: dict) -> None:
            self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _answer(self, status: int, data: bytes, headers: dict | None = None, length: int | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data) if length is None else length))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
