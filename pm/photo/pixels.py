"""Photos and PNG bytes to arrays and back."""

import functools
import io
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from pm.errors import install_hint

# Photo formats by name. Some of them Pillow cannot read; those photos are rejected with a row, not overlooked.
PHOTO_SUFFIXES = frozenset(
    f".{name}"
    for name in ("png", "apng", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "tif", "tiff", "gif", "avif", "heic")
    + ("heif", "jp2", "ppm", "tga", "raw", "dng", "cr2", "nef")
)
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # `dataset.max_pixels` is asked before


def read_photo(file: str | Path | BinaryIO) -> np.ndarray:
    """Decode a photo upright (EXIF orientation applied), as uint8 RGB [H, W, 3]; of an animation the first picture.

    Raises:
        OSError: not an image, or cut short.
        ValueError: so large that decoding it would be an attack (Pillow's decompression-bomb limit).
    """
    try:
        with open_photo(file) as image:
            return np.asarray(flatten(upright(image)))
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    except OSError:
        raise
    except Exception as error:  # Pillow's readers raise nearly anything on broken files: SyntaxError, struct.error, ...
        raise OSError(f"{type(error).__name__}: {error}") from error


def open_photo(file: str | Path | BinaryIO) -> Image.Image:
    """Any format Pillow reads but EPS: that is a program, and its reader starts Ghostscript to run it.

    Raises:
        OSError: not an image, and what else `Image.open` raises.
    """
    Image.init()
    heif = register_heif()
    try:
        return Image.open(file, formats=[name for name in Image.ID if name != "EPS"])
    except UnidentifiedImageError:  # its message names the object that holds the bytes
        if not heif and is_heif(_first_bytes(file)):
            raise OSError(f"a HEIC photo, which needs pillow-heif; run {install_hint('photos')}") from None
        raise OSError("not an image of a known format") from None


@functools.cache
def register_heif() -> bool:
    """Teach Pillow the HEIC of telephones, once for each process; False without pillow-heif (extra `photos`)."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def is_heif(head: bytes) -> bool:
    """Are these the first bytes of a HEIC or HEIF file? AVIF, which Pillow itself reads, is none."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


def _first_bytes(file: str | Path | BinaryIO) -> bytes:
    try:
        if isinstance(file, str | Path):
            with open(file, "rb") as opened:
                return opened.read(12)
        file.seek(0)
        return file.read(12)
    except OSError:
        return b""


def flatten(image: Image.Image) -> Image.Image:
    """Any Pillow mode as 8-bit RGB; what is transparent becomes white, as viewers show it."""
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image)
    if image.mode == "CMYK":
        return _from_cmyk(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data say; as it is where those are broken."""
    image.load()
    try:
        return ImageOps.exif_transpose(image) or image
    except Exception:  # a photo with damaged metadata is still a photo
        return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey ("I;16", or "I" with such values) scaled to 8 bits; Pillow's own `convert` clips, to white."""
    values = np.asarray(image).astype(np.float64)
    top = 65535.0 if image.mode.startswith("I") and (";16" in image.mode or values.max(initial=0) > 255) else 255.0
    if image.mode == "F":
        top = 1.0 if values.max(initial=0) <= 1 else 255.0
    grey = np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _from_cmyk(image: Image.Image) -> Image.Image:
    """Through the embedded colour profile, as print files need; without a usable one, the plain formula."""
    if profile := image.info.get("icc_profile"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, source, target, outputMode="RGB") or image.convert("RGB")
        except (ImageCms.PyCMSError, OSError):
            pass
    return image.convert("RGB")


def bgr(image: np.ndarray) -> np.ndarray:
    """RGB → BGR [H, W, 3], as OpenCV and InsightFace have it."""
    return np.ascontiguousarray(image[..., ::-1])


def encode_png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W, 3] or [H, W] as PNG bytes, lossless."""
    buffer = io.BytesIO()
    # Level 1: photos hardly shrink further, and level 6 takes several times as long.
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_png(data: bytes, mode: str) -> Image.Image:
    """PNG bytes as a decoded Pillow image of `mode` ("RGB" or "L")."""
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        return image.convert(mode)


def resize(image: Image.Image, side: int) -> Image.Image:
    """A square image at `side` pixels; untouched where it already has them."""
    return image if image.size == (side, side) else image.resize((side, side), Image.Resampling.LANCZOS)


def resize_mask(mask: Image.Image, side: int) -> Image.Image:
    """A soft mask at `side` pixels: area average downwards, linear upwards; never overshoots like LANCZOS."""
    filter_ = Image.Resampling.BOX if side < mask.width else Image.Resampling.BILINEAR
    return mask if mask.size == (side, side) else mask.resize((side, side), filter_)
