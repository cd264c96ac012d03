"""Errors that are a user's to fix.

Every one names the thing, the offending value and the way out. Entry points print them as a single line and
exit with status 1; anything that is not a `PmError` is a defect of ours and keeps its traceback.
"""

import difflib
import importlib.metadata
import re
from collections.abc import Iterable
from pathlib import Path

_DISTRIBUTION = "photomaker-ray"


class PmError(Exception):
    """Base of every error a user can fix."""


class ConfigError(PmError):
    """A setting is unknown, missing, of the wrong type, or contradicts another one."""


class DataError(PmError):
    """Photos or a dataset are missing, unreadable, empty, or made for something else."""


class CheckpointError(PmError):
    """A base model, adapter or training checkpoint is missing, damaged or does not fit."""


class RequestError(PmError):
    """A prompt, a set of ID images or a sampling setting cannot be served."""


class Interrupted(PmError):
    """A run was asked to stop before its end; the same command resumes from its checkpoint."""


class WriteError(PmError):
    """A file cannot be written: the disk is full, or the place is not ours; made by `pm.files`."""

    path: str  # absolute
    errno: int | None  # the system's


class LockedError(PmError):
    """Another process is working on the same folder."""


def reason(error: BaseException) -> str:
    """The first line of what an error says, or its type where it says nothing: for the brackets of our own messages."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """`; did you mean 'yunet'?` for the valid word that is nearest to a wrong one; "" where none is near."""
    near = difflib.get_close_matches(word, list(valid), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def counted(count: int, one: str, several: str | None = None) -> str:
    """A number with its noun: `1 photo`, `2 photos`, `1 person`, `3 people`.

    Args:
        count: of them.
        one: the noun for one.
        several: for any other number; None: with an s.
    """
    return f"{count} {one if count == 1 else several or f'{one}s'}"


def install_hint(extra: str) -> str:
    """The command that installs the packages of an extra, for the brackets and ends of our own messages.

    No index has this project, so its name is no help: for a checkout it is the checkout's folder, else the packages
    themselves, as the installed wheel lists them.

    Args:
        extra: of `pyproject.toml`, for example "photos".
    """
    root = Path(__file__).resolve().parents[1]
    if (root / "pyproject.toml").exists():
        return f"pip install -e '{root}[{extra}]'"
    try:
        declared = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:  # copied by hand
        return f"pip install what pyproject.toml lists as {extra}"
    marker = re.compile(rf"""\s*;.*\bextra\s*==\s*['"]{re.escape(extra)}['"].*""")
    found = [marker.sub("", line) for line in declared if marker.search(line)]
    return f"pip install {' '.join(map(repr, found))}"
