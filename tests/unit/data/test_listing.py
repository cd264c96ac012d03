import io
import json
import os
import shutil
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
from PIL import Image
from support.photos import found, ingested, source, write_photo

from pm.data.source.listing import Listing
from pm.data.source.store import read_bytes, read_pixels, size_of
from pm.data.stages.faces import find_faces
from pm.errors import DataError
from pm.photo.faces.sidecar import annotated_faces


def digest(root) -> str:
    with Listing(source(root)) as listing:
        return listing.digest


def test_photos_come_sorted_by_identity_and_name(root):
    with Listing(source(root)) as listing:
        assert [p.photo for p in listing.photos()] == [f"p{i}_man/{k}.png" for i in range(3) for k in range(4)]
        assert listing.found == 12


def test_links_that_lead_back_are_not_followed_and_others_are(root, tmp_path):
    (root / "p0_man" / "loop").symlink_to(root / "p0_man")
    (root / "p1_man" / "up").symlink_to(root)
    elsewhere = tmp_path / "elsewhere"
    write_photo(elsewhere / "far.png", 50)
    (root / "p2_man" / "album").symlink_to(elsewhere)
    names = [p.photo for p in found(root)]
    assert "p2_man/album/far.png" in names and not any("loop" in name for name in names)
    # A link to a folder above: each photo once below it, and the loop ends there.
    assert len(names) == len(set(names)) <= 12 + 1 + 13


def test_other_files_are_counted_not_overlooked(root):
    (root / "README.md").write_text("hello")
    (root / "p0_man" / "archive.zip").write_bytes(b"PK")
    (root / "p0_man" / "video").write_bytes(b"")
    with Listing(source(root)) as listing:
        assert dict(listing.ignored) == {".md": 1, ".zip": 1, "no suffix": 1} and listing.found == 12


def test_folders_that_cannot_be_read_are_counted_too(root, monkeypatch):
    def scandir(path):
        if str(path).endswith("p1_man"):
            raise PermissionError(path)
        return real(path)

    real = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    with Listing(source(root)) as listing:
        assert dict(listing.ignored) == {"folder that cannot be read": 1} and listing.found == 8


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("file")])
def test_missing_or_empty_roots_say_what_is_expected(tmp_path, make):
    make(tmp_path / "photos")
    with pytest.raises(DataError, match="<root>/<person>_<class word>/<photo>") as caught:
        found(tmp_path / "photos")
    assert "\n" not in str(caught.value) and str(tmp_path / "photos") in str(caught.value)


def test_photos_without_folders_say_so(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="only 1 photos outside any identity folder"):
        found(tmp_path)


def test_the_digest_follows_photos_and_sidecars_not_the_place(root, tmp_path):
    first = digest(root)
    copy = shutil.copytree(root, tmp_path / "elsewhere")
    assert digest(copy) == first
    (copy / "p0_man" / "0.json").write_text("{}")
    second = digest(copy)
    (copy / "p0_man" / "1.png").unlink()
    assert len({first, second, digest(copy)}) == 3


def pack(root: Path, tar: Path, names: list[str], rename=lambda name: name) -> None:
    with tarfile.open(tar, "w") as archive:
        for name in names:
            archive.add(root / name, rename(name))


@pytest.fixture
def tars(root, tmp_path) -> Path:
    """The same photos with their sidecars in two tars; a person's photos are in both."""
    files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.*"))
    folder = tmp_path / "tars"
    folder.mkdir()
    pack(root, folder / "faces-000.tar", files[::2][:8] + files[1::2][:8])
    pack(root, folder / "faces-001.tar", files[::2][8:] + files[1::2][8:])
    return folder


def test_tars_give_the_same_photos_as_a_folder(root, tars):
    plain, packed = ingested(root, 32), ingested(tars, 32)
    assert [p.identity for p in packed] == [p.identity for p in plain]
    assert sorted(p.sha256 for p in packed) == sorted(p.sha256 for p in plain)
    assert {p.photo.split("/")[0] for p in packed} == {"faces-000.tar", "faces-001.tar"}
    done = find_faces(packed, tars, annotated_faces, None, 8)
    assert not any(p.reject for p in done) and all(len(p.faces) == 1 for p in done)


def test_flat_webdataset_samples_are_grouped_by_the_identity_in_their_json(root, tmp_path):
    folder = tmp_path / "tars"
    folder.mkdir()
    with tarfile.open(folder / "00000.tar", "w") as archive:
        for number, who in enumerate(("anna_woman", "ben_man", "anna_woman")):
            data = (root / f"p{number}_man" / "0.png").read_bytes()
            beside = json.dumps({"identity": who, "caption": "a"}).encode()
            for suffix, content in (("png", data), ("json", beside)):
                info = tarfile.TarInfo(f"{number:06d}.{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    assert [(p.identity, p.photo) for p in found(folder)] == [
        ("anna_woman", "00000.tar/000000.png"),
        ("anna_woman", "00000.tar/000002.png"),
        ("ben_man", "00000.tar/000001.png"),
    ]


def test_a_tar_that_was_cut_short_gives_what_is_whole(tars):
    path = tars / "faces-001.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = ingested(tars, 32)
    assert 4 < sum(p.reject is None for p in done) < 12
    assert {p.reject.reason for p in done if p.reject} <= {"unreadable"}


class Bucket(BaseHTTPRequestHandler):
    """As much of S3 as reading needs: ListObjectsV2 in pages of five, HEAD, GET with ranges."""

    root: Path
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _send(self, status, body=b"", length=None, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        url = urlsplit(self.path)
        query, (_, bucket, *rest) = parse_qs(url.query), unquote(url.path).split("/")
        key = "/".join(rest)
        if bucket != "photos":
            return self._send(404)
        if "list-type" in query:
            return self._send(200, self._list(query).encode(), Content_Type="application/xml")
        path = self.root / key
        if not key or not path.is_file():
            return self._send(404)
        data = path.read_bytes()
        if self.command == "HEAD":
            return self._send(200, length=len(data), ETag='"x"', Last_Modified="Sun, 22 Nov 2026 00:00:00 GMT")
        if asked := self.headers.get("Range"):
            start, end = asked.removeprefix("bytes=").split("-")
            part = data[int(start) : int(end) + 1 if end else None]
            span = f"bytes {start}-{int(start) + len(part) - 1}/{len(data)}"
            return self._send(206, part, Content_Range=span, ETag='"x"')
        self._send(200, data, ETag='"x"')

    def _list(self, query):
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        keys = sorted(p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file())
        entries = {}
        for key in (k for k in keys if k.startswith(prefix)):
            head, mark, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            entries[prefix + head + mark if mark else key] = bool(mark)
        after = query.get("continuation-token", query.get("start-after", [""]))[0]
        left = [name for name in sorted(entries) if name > after]
        page = left[: min(5, int(query.get("max-keys", ["1000"])[0]))]
        more = len(left) > len(page)
        rows = "".join(
            f"<CommonPrefixes><Prefix>{quote(name)}</Prefix></CommonPrefixes>"
            if entries[name]
            else f"<Contents><Key>{quote(name)}</Key><Size>{(self.root / name).stat().st_size}</Size>"
            "<LastModified>2026-11-22T00:00:00.000Z</LastModified><ETag>x</ETag></Contents>"
            for name in page
        )
        token = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
        return (
            '<?xml version="1.0"?><ListBucketResult><Name>photos</Name><EncodingType>url</EncodingType>'
            f"<KeyCount>{len(page)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>{token}{rows}"
            "</ListBucketResult>"
        )


@pytest.fixture
def bucket(root, tars, monkeypatch):
    """An S3 server over the photos and the tars; gives its URI up to the prefix."""
    top = root.parent
    handler = type("Handler", (Bucket,), {"root": top})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield lambda p: f"s3://photos/{p}?scheme=http&region=us-east-1&endpoint_override=127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_bucket_gives_the_same_photos_as_a_folder(root, tars, bucket):
    plain = ingested(root, 32)
    remote = ingested(bucket("raw"), 32)
    assert [(p.identity, p.photo, p.sha256) for p in remote] == [(p.identity, p.photo, p.sha256) for p in plain]
    assert remote[0].source == "s3://photos/raw/p0_man/0.png"
    done = find_faces(remote, bucket("raw"), annotated_faces, None, 8)
    assert not any(p.reject for p in done)
    packed = ingested(bucket("tars"), 32)
    assert sorted(p.sha256 for p in packed) == sorted(p.sha256 for p in plain)
    assert (read_pixels(bucket("raw"), "p0_man/0.png") == read_pixels(root, "p0_man/0.png")).all()


def test_what_is_not_in_a_bucket_is_said(bucket):
    with pytest.raises(FileNotFoundError):
        read_bytes(bucket("raw"), "p0_man/none.png")
    with pytest.raises(FileNotFoundError):
        size_of(bucket("raw"), "p0_man/none.png")
    with pytest.raises(DataError, match="dataset.root=s3://photos/nowhere"):
        found(bucket("nowhere"))
