"""Uploaded photos: their format is detected from their contents, before anything decodes them."""

import hashlib
import io
import logging
import struct
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from pm.errors import install_hint, reason
from pm.photo.pixels import flatten, is_heif, register_heif, upright
from serving.config import LimitsConfig
from serving.errors import ApiError, invalid
from serving.jobs import IDENTITY, IMAGE, MASK, Photo

logger = logging.getLogger("ray.serve")
_LEAST_SIDE = 16
_FORMATS = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff"}
# For the message only; the list of what is accepted is the one above, WebP and HEIC.
_OTHERS = {
    b"GIF8": "a GIF",
    b"%PDF": "a PDF",
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"PK\3\4": "a ZIP file",
    b"\x1f\x8b": "a gzip file",
}
_READ = "PNG, JPEG, WebP or HEIC photo"
_BROKEN = (OSError, SyntaxError, EOFError, ValueError, struct.error, zlib.error, OverflowError)


def decode(data: bytes, limits: LimitsConfig, index: int, name: str | None = None, use: str = IDENTITY) -> Photo:
    """Check the format and the size, then decode upright as RGB, reduced to `limits.photo_side`.

    Args:
        data: the file.
        limits: of the service.
        index: of an ID photo, from 0.
        name: of another picture, for messages.
        use: what it is for; of a picture to change, or a mask, the transparent parts are kept.

    Raises:
        ApiError: not a PNG, JPEG, WebP or HEIC, too large or too small, or damaged.
    """
    name, kind = name or f"image[{index}]", sniff(data)
    field = name.partition("[")[0]
    if kind is None:
        raise invalid(f"{name} is {_guess(data)}; send a {_READ}", field, code="invalid_image_format")
    if kind == "HEIF" and not register_heif():
        logger.warning("a HEIC photo was refused; reading them needs pillow-heif: %s", install_hint("photos"))
        message = f"{name} is a HEIC photo, which this server cannot read; send a PNG, JPEG or WebP photo"
        raise invalid(message, field, code="invalid_image_format")
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            width, height = image.size
            if width * height > limits.photo_pixels:
                raise _too_large(name, f"{width}x{height}", limits, field)
            if min(width, height) < _LEAST_SIDE:
                raise invalid(f"{name} has {width}x{height} pixels; send at least {_LEAST_SIDE} a side", field)
            pixels = np.asarray(_decoded(image, limits.photo_side, clear=use in (IMAGE, MASK)))
    except Image.DecompressionBombError:  # Pillow's own limit, far above ours
        raise _too_large(name, "far too many", limits, field) from None
    except _BROKEN as error:
        # Pillow would name the buffer.
        said = "no header" if isinstance(error, UnidentifiedImageError) else reason(error)[:120]
        raise invalid(f"{name} is damaged or cut short ({said})", field, code="invalid_image") from None
    return Photo(hashlib.sha256(data).hexdigest(), pixels, use)


def sniff(data: bytes) -> str | None:
    """Pillow's name of the format, from the first bytes; None: not one we read."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if is_heif(data):
        return "HEIF"
    return next((kind for kind, magic in _FORMATS.items() if data.startswith(magic)), None)


def _decoded(image: Image.Image, side: int, clear: bool = False) -> Image.Image:
    # A JPEG decodes at an eighth to the whole of its size; less than we keep is never asked for.
    image.draft("RGB", (side, side))
    if max(image.size) > side:
        # Also loads, and so finds what is cut short, before any copy is made.
        image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    if clear and ("A" in image.mode or "transparency" in image.info):
        return upright(image).convert("RGBA")
    return flatten(upright(image))


def _too_large(name: str, size: str, limits: LimitsConfig, field: str) -> ApiError:
    message = f"{name} has {size} pixels, at most {limits.photo_pixels} are read; send a smaller one"
    return ApiError(413, message, code="image_too_large", param=field)


def _guess(data: bytes) -> str:
    if not data:
        return "empty"
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<svg", b"<?xml")) or b"<svg" in head:
        return "an SVG drawing"
    if data[4:12] == b"ftypavif":
        return "an AVIF photo"
    return next((name for magic, name in _OTHERS.items() if data.startswith(magic)), "not a photo we know")
