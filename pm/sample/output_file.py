"""Picture files that say how they were made: PNG in its text, JPEG and WebP in EXIF, all read by one reader."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pm.errors import RequestError, reason
from pm.files import write_bytes
from pm.protect.protector import Protector

Format = Literal["png", "jpeg", "jpg", "webp"]
SUFFIXES: Mapping[str, str] = {"png": ".png", "jpeg": ".jpg", "jpg": ".jpg", "webp": ".webp"}
XMP = "XML:com.adobe.xmp"  # PNG's name for an XMP packet; JPEG and WebP have a place of their own for it
PNG_LEVEL = 6  # zlib's own
_READABLE = ("PNG", "JPEG", "WEBP")
_EXIF, _USER_COMMENT, _ASCII = 0x8769, 0x9286, b"ASCII\0\0\0"  # Exif 2.32, section 4.6.5: UserComment
_WEBP_SIDE = 16383  # px, of the format


def picture_bytes(
    image: Image.Image,
    about: Mapping[str, object],
    format: Format,
    quality: int,
    png_level: int = PNG_LEVEL,
    protector: Protector | None = None,
) -> bytes:
    """A picture's file with its text entries.

    Args:
        image: RGB.
        about: name → anything that `str` turns into text. An XMP packet is under `XMP`.
        format: of the file.
        quality: of JPEG and WebP, 1 to 100; WebP at 100 keeps every pixel. PNG always does.
        png_level: of zlib: 0 packs nothing, 9 most; 1 is several times as fast as 6.
        protector: marks and signs it; None: neither.

    Raises:
        RequestError: too large for the format.
        ConfigError: it cannot be signed.
    """

    def encoded(marked: Image.Image) -> bytes:
        return _encoded(marked, about, format, quality, png_level)

    return encoded(image) if protector is None else protector.written(image, format, _made(about), encoded)


def _made(about: Mapping[str, object]) -> dict[str, Any]:
    """What the manifest may say: fingerprints of the base and the adapter, and the prompt where it is asked for."""
    files = json.loads(str(about.get("files", "{}"))).get("adapter", {})
    said = {
        "base": about.get("base_fingerprint", about.get("base")),
        "model": about.get("model"),
        "adapter": about.get("adapter_fingerprint") or next(iter(files.values()), None),
        "prompt": about.get("prompt"),
    }
    return {name: str(value) for name, value in said.items() if value}


def _encoded(image: Image.Image, about: Mapping[str, object], format: Format, quality: int, png_level: int) -> bytes:
    buffer = io.BytesIO()
    if format == "png":
        info = PngInfo()
        for key, value in about.items():
            info.add_itxt(key, str(value))
        image.save(buffer, format="PNG", pnginfo=info, compress_level=png_level)
        return buffer.getvalue()
    options: dict[str, Any] = {"quality": quality, "exif": _exif(about)}
    if XMP in about:
        options["xmp"] = str(about[XMP]).encode()
    if format == "webp":
        if max(image.size) > _WEBP_SIDE:
            raise RequestError(f"format=webp takes {_WEBP_SIDE} pixels a side, this has {max(image.size)}; use png")
        image.save(buffer, format="WEBP", lossless=quality == 100, **options)
        return buffer.getvalue()
    try:
        # Colours at full resolution where quality is asked for: halved ones blur a red mouth.
        image.save(buffer, format="JPEG", subsampling=0 if quality >= 90 else 2, **options)
    except ValueError as error:  # a segment of JPEG holds 64 KiB
        raise RequestError(f"what the picture says of itself does not fit a JPEG ({error}); use format=png") from error
    return buffer.getvalue()


def save_picture(
    path: str | Path,
    image: Image.Image,
    about: Mapping[str, object],
    format: Format,
    quality: int,
    png_level: int = PNG_LEVEL,
    protector: Protector | None = None,
) -> None:
    """Write `picture_bytes` atomically."""
    write_bytes(path, picture_bytes(image, about, format, quality, png_level, protector), sync=False)


def png_bytes(image: Image.Image, about: Mapping[str, object]) -> bytes:
    """A PNG with text entries."""
    return picture_bytes(image, about, "png", 100)


def save_png(path: str | Path, image: Image.Image, about: Mapping[str, object]) -> None:
    """Write a PNG with text entries atomically."""
    write_bytes(path, png_bytes(image, about), sync=False)


def read_about(source: str | Path | bytes) -> dict[str, str]:
    """The text entries of a file that `picture_bytes` made, in any of its formats; empty where there are none.

    Raises:
        RequestError: not a PNG, JPEG or WebP, or damaged.
    """
    name = "the picture" if isinstance(source, bytes) else str(source)
    try:
        opened = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_READABLE)
        with opened as image:
            image.load()  # text may stand behind the pixels
            if image.format == "PNG":
                return {key: str(value) for key, value in getattr(image, "text", {}).items()}
            comment, xmp = image.getexif().get_ifd(_EXIF).get(_USER_COMMENT, b""), image.info.get("xmp")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RequestError(f"{name} cannot be read ({reason(error)}); give a PNG, JPEG or WebP picture") from error
    found = _from_comment(comment)
    return found | {XMP: xmp.decode("utf-8", "replace")} if xmp and found else found


def _exif(about: Mapping[str, object]) -> Image.Exif:
    """Text entries as JSON in the UserComment, in ASCII, which every reader of EXIF understands."""
    exif, texts = Image.Exif(), {key: str(value) for key, value in about.items() if key != XMP}
    if texts:
        exif.get_ifd(_EXIF)[_USER_COMMENT] = _ASCII + json.dumps(texts).encode("ascii")
    return exif


def _from_comment(comment: Any) -> dict[str, str]:
    """What `_exif` wrote; empty for comments of others, such as cameras'."""
    data = comment.encode("latin-1", "replace") if isinstance(comment, str) else bytes(comment)
    try:
        found = json.loads(data.removeprefix(_ASCII).rstrip(b"\0"))
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
