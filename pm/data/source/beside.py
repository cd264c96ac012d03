"""A photo with what lies beside it, read from where the photos are: `<stem>.json` and `<stem>.txt`."""

from pathlib import Path, PurePosixPath
from typing import Any

from pm.data.records import Photo
from pm.data.source.store import read_bytes, read_pixels, size_of
from pm.photo.sidecar import MOST_BYTES, parse_sidecar
from pm.photo.types import PhotoView, SidecarError, SidecarMissing


def view_of(photo: Photo, root: str | Path) -> PhotoView:
    """The photo as detectors and maskers see it; read when they ask."""
    pixels, annotations = lambda: read_pixels(root, photo.photo), lambda: read_sidecar(root, photo.photo)
    return PhotoView(photo.width, photo.height, pixels, annotations)


def read_sidecar(root: str | Path, photo: str) -> dict[str, Any]:
    """The annotations of a photo (path relative to `root`).

    Raises:
        SidecarError: missing, too large, or not a JSON mapping.
    """
    try:
        return parse_sidecar(_read(root, photo, ".json"))
    except FileNotFoundError:
        raise SidecarMissing() from None
    except OSError:
        raise SidecarError("bad_sidecar") from None


def read_text(root: str | Path, photo: str) -> str | None:
    """`<photo stem>.txt`, or None without one; what is not UTF-8 in it is replaced.

    Raises:
        SidecarError: it is there and cannot be read.
    """
    try:
        return _read(root, photo, ".txt").decode("utf-8-sig", "replace")
    except FileNotFoundError:
        return None
    except OSError:
        raise SidecarError("bad_sidecar") from None


def _read(root: str | Path, photo: str, suffix: str) -> bytes:
    name = PurePosixPath(photo).with_suffix(suffix).as_posix()
    if size_of(root, name) > MOST_BYTES:
        raise SidecarError("sidecar_too_large")
    return read_bytes(root, name)
