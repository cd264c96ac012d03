"""Annotations beside a photo: `<photo stem>.json` with caption, class word, faces, person mask; `.txt`: a caption."""

import base64
import binascii
import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pm.data.records import Face
from pm.data.source.store import read_bytes, size_of
from pm.photo.pixels import decode_png

_MOST_BYTES = 2**25  # a mask as large as the largest photo is a few of these megabytes


class SidecarError(ValueError):
    """A sidecar is there and cannot be used; `reason` is what the reject row says."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class SidecarMissing(SidecarError):
    """There is no sidecar at all."""

    def __init__(self) -> None:
        super().__init__("no_sidecar")


def read_sidecar(root: str | Path, photo: str) -> dict[str, Any]:
    """The annotations of a photo (path relative to `root`).

    Raises:
        SidecarError: missing, or not a JSON mapping.
    """
    try:
        content = json.loads(_read(root, photo, ".json"))
    except FileNotFoundError:
        raise SidecarMissing() from None
    except SidecarError:
        raise
    except (OSError, ValueError, RecursionError):
        raise SidecarError("bad_sidecar") from None
    if not isinstance(content, dict):
        raise SidecarError("bad_sidecar")
    return content


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
    if size_of(root, name) > _MOST_BYTES:
        raise SidecarError("sidecar_too_large")
    return read_bytes(root, name)


def sidecar_faces(content: dict[str, Any]) -> list[Face]:
    """Faces as annotated: `faces: [{"box": [x0, y0, x1, y1], "landmarks": [[x, y], ...], "score": 1.0}]`, in pixels."""
    try:
        return [
            Face(
                tuple(float(v) for v in face["box"][:4]),
                tuple(float(v) for point in face.get("landmarks", ()) for v in point),
                float(face.get("score", 1.0)),
                (),
            )
            for face in content.get("faces", ())
            if len(face["box"]) == 4
        ]
    except (TypeError, ValueError, KeyError):
        raise SidecarError("bad_sidecar") from None


def sidecar_mask(content: dict[str, Any], height: int, width: int) -> np.ndarray | None:
    """The person's mask as uint8 [H, W], or None without one; it must have the photo's size."""
    if not content.get("mask_png"):
        return None
    try:
        mask = decode_png(base64.b64decode(content["mask_png"], validate=True), "L")
    except (binascii.Error, OSError, ValueError, TypeError, SyntaxError):
        raise SidecarError("bad_mask") from None
    if mask.size != (width, height):
        raise SidecarError("bad_mask")
    return np.asarray(mask)
