"""Annotations beside a photo: `<photo stem>.json` with caption, class word, faces, person mask. Parsing only."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from pm.photo.pixels import decode_png
from pm.photo.types import Face, SidecarError

MOST_BYTES = 2**25  # of a file; a mask as large as the largest photo is a few of these megabytes


def parse_sidecar(data: bytes) -> dict[str, Any]:
    """The content of a sidecar.

    Raises:
        SidecarError: too large, or not a JSON mapping.
    """
    if len(data) > MOST_BYTES:
        raise SidecarError("sidecar_too_large")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise SidecarError("bad_sidecar") from None
    if not isinstance(content, dict):
        raise SidecarError("bad_sidecar")
    return content


def sidecar_faces(content: Mapping[str, Any]) -> list[Face]:
    """Faces as annotated: `faces: [{"box": [x0, y0, x1, y1], "landmarks": [[x, y], ...], "score": 1.0}]`, in pixels.

    Raises:
        SidecarError: they are something else.
    """
    try:
        return [
            Face(
                tuple(float(v) for v in face["box"][:4]),
                tuple(float(v) for point in face.get("landmarks", ()) for v in point),
                float(face.get("score", 1.0)),
            )
            for face in content.get("faces", ())
            if len(face["box"]) == 4
        ]
    except (TypeError, ValueError, KeyError):
        raise SidecarError("bad_sidecar") from None


def sidecar_mask(content: Mapping[str, Any], height: int, width: int) -> np.ndarray | None:
    """The person's mask as uint8 [H, W], or None without one.

    Raises:
        SidecarError: it is no PNG, or has not the photo's size.
    """
    if not content.get("mask_png"):
        return None
    try:
        mask = decode_png(base64.b64decode(content["mask_png"], validate=True), "L")
    except (binascii.Error, OSError, ValueError, TypeError, SyntaxError):
        raise SidecarError("bad_mask") from None
    if mask.size != (width, height):
        raise SidecarError("bad_mask")
    return np.asarray(mask)
