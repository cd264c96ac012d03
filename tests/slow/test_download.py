import csv
import dataclasses
import hashlib
import io
import json
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.photos import source

from pm.data.source.download import DownloadConfig, Downloader, is_public
from pm.data.source.listing import Listing
from pm.data.source.manifest import manifest_rows
from pm.data.source.store import read_bytes
from pm.data.source.urls import Urls
from pm.data.stages.ingest import ingest
from pm.errors import DataError

CONFIG = DownloadConfig(
    connections=16,
    per_host=2,
    timeout=20.0,
    total_timeout=60.0,
    retries=2,
    backoff=0.01,
    max_bytes=50_000,
    user_agent="photomaker-test",
    respect_robots_tag=True,
    allow_private=True,
)


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((64, 64)).save(buffer, "PNG")
    return buffer.getvalue()


class Site(BaseHTTPRequestHandler):
    """A host with every kind of answer; counts requests, and how many it answers at a time."""

    hits: Counter
    busy: list
    lock: threading.Lock
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        with self.lock:
            self.hits[self.path] += 1
            self.busy[0] += 1
            self.busy[1] = max(self.busy[1], self.busy[0])
        try:
            self._answer()
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with self.lock:
                self.busy[0] -= 1

    def _send(self, status, body=b"", length=None, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self):
        kind = self.path.strip("/").split(".")[0]
        if kind.isdigit():
            time.sleep(0.02)
            return self._send(200, png(int(kind)))
        if kind == "busy" and self.hits[self.path] < 3:
            return self._send(503, Retry_After="0")
        if kind == "drops" and self.hits[self.path] < 2:
            self._send(200, png(1)[:50], length=500)
            self.close_connection = True
            return None
        if kind == "always-drops":
            self._send(200, png(1)[:50], length=500)
            self.close_connection = True
            return None
        if kind == "hangs":
            time.sleep(1.2)
        if kind == "drips-head":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for _ in range(40):
                self.wfile.write(b"X-Nothing: 1\r\n")
                time.sleep(0.1)
        if kind.startswith("drips"):
            self.send_response(200)
            if kind == "drips-whole":
                self.send_header("Content-Length", "40")
            self.end_headers()
            self.close_connection = True
            for _ in range(40):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.1)
            return None
        if kind == "endless":
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            while True:
                self.wfile.write(bytes(10_000))
        if kind == "round":
            return self._send(302, Location=self.path)
        if kind == "moved":
            return self._send(301, Location="/5.png")
        if kind == "inside":
            return self._send(302, Location="http://127.0.0.2:1/secret")
        if kind == "refused":
            return self._send(200, png(2), X_Robots_Tag="otherbot: noindex, noai")
        if kind == "large":
            return self._send(200, bytes(60_000))
        if kind in ("busy", "drops"):
            return self._send(200, png(7 if kind == "busy" else 8))
        return self._send(404)


@pytest.fixture
def site():
    handler = type("Handler", (Site,), {"hits": Counter(), "busy": [0, 0], "lock": threading.Lock()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handler.url = f"http://127.0.0.1:{server.server_port}"
    yield handler
    server.shutdown()


def listed(manifest, root):
    with Listing(source(root, kind=Urls, manifest=str(manifest), download=CONFIG)) as listing:
        return list(listing.photos())


def write_csv(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, ["identity", "url", "licence", "sha256"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_photos_arrive_politely_and_are_not_fetched_twice(site, tmp_path):
    right = hashlib.sha256(png(0)).hexdigest().upper()
    rows = [{"identity": "anna_woman", "url": f"{site.url}/{i}.png", "licence": "CC0"} for i in range(20)]
    rows[0]["sha256"] = right
    photos = listed(write_csv(tmp_path / "m.csv", rows), tmp_path / "photos")
    done = Downloader(CONFIG, str(tmp_path / "photos"))(photos)
    assert not any(p.reject for p in done) and {p.licence for p in done} == {"CC0"}
    assert {p.source for p in done} == {row["url"] for row in rows}
    assert site.busy[1] <= CONFIG.per_host and sum(site.hits.values()) == 20
    checked = ingest(done, tmp_path / "photos", source(tmp_path / "photos", 32))
    assert not any(p.reject for p in checked) and right.lower() in {p.sha256 for p in checked}
    again = Downloader(CONFIG, str(tmp_path / "photos"))(photos)
    assert again == done and sum(site.hits.values()) == 20


REASONS = {
    "none.jpg": "http_404",
    "busy.png": None,  # twice 503 with Retry-After, then there
    "drops.png": None,  # cut off once
    "always-drops.png": "broken_off",
    "hangs.png": "timeout",
    "drips.png": "timeout",
    "drips-whole.png": "timeout",
    "drips-head.png": "timeout",
    "endless.png": "too_large",
    "large.png": "too_large",
    "round.png": "too_many_redirects",
    "moved.png": None,
    "refused.png": "refused_by_owner",
}


def test_every_failure_is_a_row_with_its_reason(site, tmp_path, monkeypatch):
    def look_up(host, *rest, **more):  # tests need no network, and no name server either
        if host == "nowhere.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return real(host, *rest, **more)

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    rows = [{"identity": "anna_woman", "url": f"{site.url}/{name}"} for name in REASONS]
    odd = {"ftp://example.org/a.png": "bad_url", "http://[broken/a.png": "bad_url", "not a url": "bad_url"}
    odd |= {"http://nowhere.invalid/a.png": "unknown_host", "http://127.0.0.1:1/a.png": "no_connection"}
    rows += [{"identity": "anna_woman", "url": url} for url in odd]
    rows.append({"identity": "anna_woman", "url": f"{site.url}/9.png", "sha256": "0" * 64})
    photos = listed(write_csv(tmp_path / "m.csv", rows), tmp_path / "photos")
    assert len(photos) == len(rows)
    slow = [p for p in photos if "/hangs" in p.source or "/drips" in p.source]
    done = Downloader(CONFIG, str(tmp_path / "photos"))([p for p in photos if p not in slow])
    hasty = dataclasses.replace(CONFIG, timeout=0.5, total_timeout=1.0, retries=0)
    done += Downloader(hasty, str(tmp_path / "photos"))(slow)
    wanted = {f"{site.url}/{name}": reason for name, reason in REASONS.items()}
    wanted |= odd | {f"{site.url}/9.png": "checksum"}
    assert {p.source: p.reject and p.reject.reason for p in done} == wanted
    assert site.hits["/none.jpg"] == 1 and site.hits["/busy.png"] == 3
    there = {p.photo for p in done if not p.reject}
    assert {p.relative_to(tmp_path / "photos").as_posix() for p in (tmp_path / "photos").rglob("*.*")} == there


def test_private_addresses_are_never_called(site, tmp_path):
    strict = dataclasses.replace(CONFIG, allow_private=False)
    port = site.url.rpartition(":")[2]
    urls = [f"{site.url}/1.png", f"http://localhost:{port}/1.png", f"http://[::ffff:127.0.0.1]:{port}/1.png"]
    urls += ["http://169.254.169.254/latest/meta-data", "https://10.0.0.1/a.png", "http://0.0.0.0/a.png"]
    photos = listed(write_csv(tmp_path / "m.csv", [{"identity": "a", "url": u} for u in urls]), tmp_path / "photos")
    done = Downloader(strict, str(tmp_path / "photos"))(photos)
    assert {p.reject.reason for p in done} == {"private_address"} and not site.hits


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1"])
def test_no_way_of_writing_a_private_address_is_public(address):
    assert not is_public(address) and not is_public(f"::ffff:{address}")
    packed = bytes(map(int, address.split("."))).hex()
    assert not is_public(f"2002:{packed[:4]}:{packed[4:]}::1") and not is_public(f"64:ff9b::{packed[:4]}:{packed[4:]}")


def test_public_addresses_are_public():
    assert all(map(is_public, ("1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "64:ff9b::101:101")))
    assert not any(map(is_public, ("::1", "fe80::1%eth0", "fc00::1", "ff02::1")))


def test_csv_jsonl_and_parquet_say_the_same(tmp_path):
    rows = [
        {"identity": "007", "url": "http://a/1.jpg", "licence": "CC0", "sha256": ""},
        {"identity": "王_woman", "url": "http://a/2", "licence": "", "sha256": "AB"},
    ]
    write_csv(tmp_path / "m.csv", rows)
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    first, *others = [list(manifest_rows(str(tmp_path / f"m.{kind}"))) for kind in ("csv", "jsonl", "parquet")]
    assert [r.identity for r in first] == ["007", "王_woman"] and first[1].sha256 == "ab"
    assert all(other == first for other in others)


@pytest.mark.parametrize(
    "name", ["../../etc", "/etc/passwd", "..", ".hidden", "a/../../b", "x" * 400 + "_woman", "a\0b"]
)
def test_no_identity_leads_out_of_the_root(tmp_path, name):
    pq.write_table(pa.table({"identity": [name], "url": ["http://a/1.jpg"]}), tmp_path / "m.parquet")
    (row,) = manifest_rows(str(tmp_path / "m.parquet"))
    inside = (tmp_path / "photos" / row.name).resolve()
    assert inside.relative_to((tmp_path / "photos").resolve()).parts[0] == (row.identity or "_")
    assert len(row.identity.encode()) <= 120 and not row.identity.startswith(".")
    if name.endswith("_woman"):
        assert row.identity.endswith("_woman")


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("m.txt", "x", "must end in one of"),
        ("m.csv", "person,link\na,b\n", "no column 'identity'"),
        ("m.jsonl", "{broken", "cannot be read"),
        ("m.parquet", "no parquet", "cannot be read"),
        ("none.csv", None, "cannot be read"),
    ],
)
def test_manifests_that_cannot_be_used_say_why(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        listed(tmp_path / name, tmp_path / "photos")
    assert "\n" not in str(caught.value).strip()


def test_repeated_rows_are_one_photo_and_a_manifest_need_not_fit_into_memory(tmp_path):
    with open(tmp_path / "m.csv", "w") as file:
        file.write("identity,url\n" + "".join(f"p{i % 50},http://a/{i % 2000}.jpg\n" for i in range(20_000)))
    photos = listed(tmp_path / "m.csv", tmp_path / "photos")
    assert len(photos) == len({p.photo for p in photos}) == 2000
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "photos", photos[0].photo)
