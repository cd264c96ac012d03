"""Serving keeps no photo on disk: everything this process opens for writing during requests is watched."""

import asyncio
import ctypes
import os
import sys
import tempfile
from contextlib import contextmanager, suppress

from support.api import PROMPT, photo

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND
OTHERS = ("os.rename", "os.link", "os.symlink", "os.mkdir", "tempfile.mkstemp", "tempfile.mkdtemp", "shutil.copyfile")
CHANGES = 0x2 | 0x80 | 0x100  # inotify: modified, moved there, created
seen: list[str] | None = None


def _hook(event, arguments):
    if seen is None:
        return
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
        path = os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes)) else str(arguments[0])
        if path != os.devnull and ".pyc" not in path:  # what is imported late is compiled
            seen.append(path)
    elif event in OTHERS and ".pyc" not in str(arguments):
        seen.append(f"{event} {arguments[0]}")


@contextmanager
def watched(*folders):
    """Collects what Python opens for writing, and what anybody, C code too, changes in these folders."""
    global seen
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_NONBLOCK)
    for folder in folders:
        assert libc.inotify_add_watch(handle, os.fsencode(folder), CHANGES) >= 0
    found: list[str] = []
    seen = found
    try:
        yield found
    finally:
        seen = None
        with suppress(BlockingIOError):
            found.append(f"inotify: {os.read(handle, 4096)!r}")
        os.close(handle)


sys.addaudithook(_hook)


def test_no_photo_is_written_to_disk(make_client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    large = photo(3, (900, 700))  # beyond what web frameworks keep in memory
    assert len(large) > 2**20

    async def requests():
        async with make_client() as client:
            fields = {"prompt": PROMPT, "steps": "2"}
            answers = [
                await client.post("/v1/images/edits", data=fields, files=[("image[]", ("a.png", large))]),
                await client.post("/v1/images/edits", data={**fields, "stream": "true"}, files={"image": photo(1)}),
                await client.post("/v1/images/references", files=[("image[]", ("a.png", photo(2)))]),
                await client.post("/v1/images/edits", data=fields, files={"image": b"no photo"}),
            ]
            return [answer.status_code for answer in answers]

    assert asyncio.run(requests())[0] == 200  # what is loaded at first use is there now
    with watched(tmp_path) as found:
        codes = asyncio.run(requests())
    assert codes == [200, 200, 200, 400] and found == []
    with watched(tmp_path) as found, tempfile.TemporaryFile() as file:  # the watch sees what it is to see
        file.write(large)
        (tmp_path / "photo.png").write_bytes(large)
    assert any("photo.png" in each for each in found) and any("inotify" in each for each in found)
