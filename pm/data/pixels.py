"""Photos and PNG bytes to arrays and back."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def read_photo(path: str | Path) -> np.ndarray:
    """Decode a photo file upright (EXIF orientation applied), as uint8 RGB [H, W, 3].

    Raises:
        OSError: not an image, or cut short.
        ValueError: so large that decoding it would be an attack (Pillow's decompression-bomb limit).
    """
    try:
        with Image.open(path) as image:
            return np.asarray(flatten(ImageOps.exif_transpose(image)))
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    except (SyntaxError, EOFError) as error:  # how Pillow's PNG reader reports broken chunks
        raise OSError(str(error)) from error


def flatten(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB; what is transparent becomes white, as viewers show it."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def encode_png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W, 3] or [H, W] as PNG bytes, lossless."""
    buffer = io.BytesIO()
    # Level 1: photos hardly shrink further, and level 6 takes several times as long.
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_png(data: bytes, mode: str) -> Image.Image:
    """PNG bytes as a decoded Pillow image of `mode` ("RGB" or "L")."""
    with Image.open(io.BytesIO(data)) as image:
        return image.convert(mode)


def resize(image: Image.Image, side: int) -> Image.Image:
    """A square image at `side` pixels; untouched where it already has them."""
    return image if image.size == (side, side) else image.resize((side, side), Image.Resampling.LANCZOS)


def resize_mask(mask: Image.Image, side: int) -> Image.Image:
    """A soft mask at `side` pixels: area average downwards, linear upwards; never overshoots like LANCZOS."""
    filter_ = Image.Resampling.BOX if side < mask.width else Image.Resampling.BILINEAR
    return mask if mask.size == (side, side) else mask.resize((side, side), filter_)
