"""What is wrong with a file of weights, detected from its contents before any library opens it.

The libraries' own messages speak of headers and of unpickling; what happened is a download that broke off, a web page,
or a Git LFS pointer. Used for every file of weights that a user may give: adapters, parts of a base, towers, probes.
"""

import hashlib
import json
import zipfile
from pathlib import Path

from pm.errors import CheckpointError

_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html", b"<?xml")
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # protocol 2 to 5, as torch and pickle write them
_HEADER_BYTES = 100_000_000  # safetensors' own limit


def is_pickle(file: str | Path) -> bool:
    """Whether a file is read as a pickle of plain tensors, by its name."""
    return Path(file).suffix in (".bin", ".pt", ".pth")


def fingerprint(*files: Path) -> str:
    """First 16 hex digits of the sha256 of all bytes of the files, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def check_weights(file: str | Path, *, plain_pickle: bool = False) -> None:
    """Refuse a file that cannot be the weights its name promises.

    Args:
        file: a safetensors file.
        plain_pickle: a `.bin`, `.pt` or `.pth` instead, which is read with `weights_only=True` and nothing else.

    Raises:
        CheckpointError: it is missing, empty, cut short, a Git LFS pointer, a web page, or the other kind of file.
    """
    path = Path(file)
    found = _damage(path, plain_pickle)
    if found is not None:
        raise CheckpointError(f"{path.absolute()} {found}")


def _damage(path: Path, plain_pickle: bool) -> str | None:
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(64)
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if size == 0:
        return "is empty; copy or download it again"
    if start.startswith(_POINTER):
        return (
            "is a Git LFS pointer, not the weights; run 'git lfs pull' in its repository, or download the file itself"
        )
    if start.lstrip().lower().startswith(_PAGES):
        return (
            "is a web page saved under this name (an error, a log-in); log in if need be and download the file itself"
        )
    zipped, pickled = start.startswith(b"PK"), start.startswith(_PICKLES)
    if plain_pickle:
        return _pickle_damage(path, zipped or pickled, zipped)
    if zipped or pickled:
        return (
            "is a pickle under the name of a safetensors file; get the safetensors version "
            "(a published PhotoMaker adapter in this form is read when it is named .bin)"
        )
    return _safetensors_damage(path, size, start)


def _pickle_damage(path: Path, known: bool, zipped: bool) -> str | None:
    if not known:
        return "is no file of torch; if it is a safetensors file, name it .safetensors, else download it again"
    if zipped and not zipfile.is_zipfile(path):  # the list of contents stands at the end
        return "is cut short; copy or download it again"
    return None


def _safetensors_damage(path: Path, size: int, start: bytes) -> str | None:
    """The format: 8 bytes N, N bytes of JSON with each tensor's offsets, the tensors."""
    header = int.from_bytes(start[:8], "little")
    if size < 9 or start[8:9] != b"{" or not 0 < header <= _HEADER_BYTES:
        return "is not a safetensors file; download it again, or convert it"
    if header > size - 8:
        return f"is cut short inside its header ({size:,} bytes); copy or download it again"
    try:
        with path.open("rb") as stream:
            stream.seek(8)
            entries = json.loads(stream.read(header))
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError):
        return "has a damaged header; copy or download it again"
    whole = 8 + header + max(ends, default=0)
    if size < whole:
        return f"is cut short ({size:,} of {whole:,} bytes); copy or download it again"
    return None
