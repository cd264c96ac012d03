import errno
import multiprocessing
import os
import pickle
import resource
import signal
import stat

import pytest
import torch
from safetensors.torch import save_file

from pm import files
from pm.errors import DataError, LockedError, WriteError


@pytest.fixture
def small_files():
    """No file may become longer than 1000 bytes: what a full disk does, on any file system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


WRITERS = {
    "bytes": lambda path: files.write_bytes(path, b"n" * 5000),
    "text": lambda path: files.write_text(path, "ö" * 5000),
    "json": lambda path: files.write_json(path, ["n"] * 5000),
}


def write_torch(path):
    with files.open_atomic(path, "wb") as stream:
        torch.save({"a": torch.zeros(5000)}, stream)


def write_safetensors(path):
    with files.replace_file(path) as temporary:
        save_file({"a": torch.zeros(5000)}, temporary)


@pytest.mark.parametrize("sync", [True, False])
def test_a_file_is_written_with_its_folders_and_replaced(tmp_path, sync):
    path = tmp_path / "a" / "b.json"
    files.write_json(path, {"x": "é"}, sync=sync)
    assert path.read_text() == '{"x": "\\u00e9"}\n'
    files.write_text(path, "é", sync=sync)
    assert path.read_bytes() == "é".encode() and names(path.parent) == ["b.json"]


@pytest.mark.parametrize("write", [*WRITERS.values(), write_torch, write_safetensors])
def test_a_full_disk_leaves_the_old_file_and_one_line(tmp_path, small_files, write):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(WriteError, match="the disk is full") as caught:
        write(path)
    assert path.read_bytes() == b"old" and names(tmp_path) == ["x"]
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [files.replace_file, files.open_atomic, files.replace_folder])
def test_an_error_in_the_block_is_passed_on_and_leaves_nothing(tmp_path, make):
    with pytest.raises(FileNotFoundError, match="photo.png"), make(tmp_path / "x"):
        (tmp_path / "elsewhere" / "photo.png").read_bytes()
    with pytest.raises(KeyboardInterrupt), make(tmp_path / "x"):
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_a_place_that_cannot_be_written_is_named_with_the_setting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(WriteError) as caught, files.writing("file/out", "output="):
        files.write_text("file/out/report.md", "text")
    assert str(caught.value) == (
        f"{tmp_path}/file/out/report.md cannot be written (Not a directory); choose another output=, or make this one "
        "writable"
    )
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_writing_covers_libraries_and_leaves_other_errors_alone(tmp_path):
    with pytest.raises(WriteError, match="the disk is full"), files.writing(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(DataError, match="as it was"), files.writing(tmp_path, "output="):
        raise DataError("as it was")
    with pytest.raises(ValueError), files.writing(tmp_path, "output="):
        raise ValueError("no number 28 of the system")


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "step-1"
    for text in ("first", "second"):
        with files.replace_folder(target) as folder:
            (folder / text).touch()
            assert not (target / text).exists()
    assert names(target) == ["second"] and names(tmp_path) == ["step-1"]
    with pytest.raises(RuntimeError), files.replace_folder(target) as folder:
        (folder / "third").touch()
        raise RuntimeError
    assert names(target) == ["second"] and names(tmp_path) == ["step-1"]


def test_permissions_are_the_users_unless_given(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "shared", "x")
        files.write_text(tmp_path / "secret", "x", mode=0o600)
        with files.replace_file(tmp_path / "public", mode=0o644) as path:
            path.touch(0o600)
    finally:
        os.umask(before)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    assert modes == {"shared": 0o640, "secret": 0o600, "public": 0o644}


def test_names_as_long_as_the_file_system_takes(tmp_path):
    files.write_text(tmp_path / ("ж" * 127), "x")
    assert names(tmp_path) == ["ж" * 127]


def test_leftovers_of_this_and_of_earlier_versions_are_known(tmp_path):
    with pytest.raises(RuntimeError), files.replace_file(tmp_path / "part-00000.parquet") as temporary:
        ours = temporary.name
        raise RuntimeError
    older = ["dataset.json.tmp77", ".p.parquet.tmp4", ".adapter.bin.123.tmp", ".a.png.pulled.tmp", "toon.partial"]
    assert [files.target_name(name) for name in [ours, *older]] == [
        "part-00000.parquet", "dataset.json", "p.parquet", "adapter.bin", "a.png", "toon"
    ]  # fmt: skip
    for mine in ("part-00000.parquet", ".lock", "a.tmp.png", "notes.partially.md", ".hidden"):
        assert files.target_name(mine) is None
    for name in (ours, "part-00001.parquet.tmp9", "part-00001.parquet", "mine.tmp7"):
        (tmp_path / name).touch()
    files.remove_leftovers(tmp_path, lambda name: name.startswith("part-"))
    assert names(tmp_path) == ["mine.tmp7", "part-00001.parquet"]


def _hold(path, held, release):
    with files.locked(path, "it"):
        held.set()
        release.wait()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_lock_names_its_holder_and_ends_with_it(tmp_path, kind):
    path = tmp_path if kind == "folder" else tmp_path / ".lock"
    context = multiprocessing.get_context("fork")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(path, held, release))
    other.start()
    assert held.wait(20)
    message = rf"dataset {path} is in use by process {other.pid} \(.*python.*\); wait until it has finished"
    with pytest.raises(LockedError, match=message), files.locked(path, f"dataset {path}"):
        pass
    other.kill()
    other.join()
    with files.locked(path, "it"):
        pass
