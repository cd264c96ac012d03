"""Stage 1: let in the photos that can be read, are large enough and are not there twice (paper section 3.3)."""

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from pm.data.records import Photo, groups
from pm.data.source.choice import SourceChoice
from pm.data.source.store import read_bytes, size_of
from pm.data.stages.stage import Place, Remedy, Stage, Work
from pm.errors import ConfigError, install_hint
from pm.photo.pixels import open_photo, read_photo

_HASH_SIDE = 256  # px, enough for a hash of 64 bits
_ROWS = 1024  # hashes compared at a time


@dataclass(frozen=True)
class Ingest(Stage):
    """What `dataset.min_side`, `max_pixels`, `max_bytes` and `near_duplicate` ask of a photo."""

    name: ClassVar[str] = "ingest"
    remedies: ClassVar[Mapping[str, Remedy]] = {
        "by_hand": Remedy(words="photomaker edit <dataset> reset <photo> takes a decision by hand back"),
        "too_small": Remedy("dataset.min_side", limit=256),
        "too_many_pixels": Remedy("dataset.max_pixels", limit=5e8),
        "too_many_bytes": Remedy("dataset.max_bytes", limit=1e9),
        "near_duplicate": Remedy(words="dataset.near_duplicate=null keeps photos that nearly repeat another one"),
        "no_identity_folder": Remedy(words="move photos into a folder for each person, <name>_<class word>/"),
    }

    def depends(self) -> dict[str, Any]:
        """What is asked of every photo."""
        names = ("min_side", "max_pixels", "max_bytes", "near_duplicate")
        return {name: getattr(self.config.dataset, name) for name in names}

    def check(self) -> None:
        """Is ImageHash there, where it is needed?"""
        if self.config.dataset.near_duplicate is not None:
            require_imagehash()

    def build(self, place: Place) -> list[Work]:
        """Two parts: each photo alone, then the photos of a person among themselves."""
        source = self.config.dataset
        hashes: dict[str, int | None] = {}

        def open_all(photos: list[Photo]) -> list[Photo]:
            return open_photos(photos, str(source.root), source, hashes)

        def compare(photos: list[Photo]) -> list[Photo]:
            return drop_duplicates(photos, hashes, source.near_duplicate)

        return [Work(self.name, open_all, per_photo=True), Work(self.name, compare, per_photo=False)]


class _Unfit(Exception):
    """A photo that stays out; `args` are those of `Photo.rejected` behind the stage."""


def ingest(photos: Sequence[Photo], root: str | Path, source: SourceChoice) -> list[Photo]:
    """Check every photo, whole identities at a time, and note its hash and upright size.

    Rejects: outside an identity folder, unreadable or cut short, too many bytes or pixels to be opened, smaller than
    `source.min_side`, same file twice, or nearly the same picture as another one (the larger stays).
    """
    hashes: dict[str, int | None] = {}
    return drop_duplicates(open_photos(photos, root, source, hashes), hashes, source.near_duplicate)


def open_photos(
    photos: Sequence[Photo], root: str | Path, source: SourceChoice, hashes: dict[str, int | None]
) -> list[Photo]:
    """The part of `ingest` that looks at each photo alone; notes their perceptual hashes by name."""
    result = []
    for photo in photos:
        photo, hashes[photo.photo] = _checked(photo, root, source)
        result.append(photo)
    return result


def drop_duplicates(
    photos: Sequence[Photo], hashes: Mapping[str, int | None], near_duplicate: int | None
) -> list[Photo]:
    """The part of `ingest` that compares the photos of a person."""
    first: dict[tuple[str, str], str] = {}
    result = []
    for photo in photos:
        if photo.reject is None:
            # A second copy would let the target be its own reference.
            twin = first.setdefault((photo.identity, photo.sha256), photo.photo)
            photo = (
                photo
                if twin == photo.photo
                else photo.rejected(Ingest.name, "duplicate", detail=f"same file as {twin}")
            )
        result.append(photo)
    if near_duplicate is None:
        return result
    twins: dict[str, tuple[str, int]] = {}
    for members in groups(result).values():
        twins |= near_duplicates(members, hashes, near_duplicate)
    return [_near(photo, twins, near_duplicate) for photo in result]


def near_duplicates(
    photos: Sequence[Photo], hashes: Mapping[str, int | None], limit: int
) -> dict[str, tuple[str, int]]:
    """Photos of one person that nearly repeat another one: name → (name of the one that stays, bits that differ).

    The largest picture stays, of equal ones the first by name. Compared in blocks: memory grows with n, not n².

    Args:
        hashes: 64 bits for each photo's name.
        limit: photos whose hashes differ in at most so many bits are near duplicates.
    """
    order = sorted(photos, key=lambda p: (-p.width * p.height, p.photo))
    bits = np.array([hashes[p.photo] for p in order], dtype=np.uint64)
    stays: list[int] = []
    twins: dict[str, tuple[str, int]] = {}
    for number, photo in enumerate(order):
        for start in range(0, len(stays), _ROWS):
            chunk = stays[start : start + _ROWS]
            apart = np.bitwise_count(bits[chunk] ^ bits[number])
            nearest = int(apart.argmin())
            if apart[nearest] <= limit:
                twins[photo.photo] = (order[chunk[nearest]].photo, int(apart[nearest]))
                break
        else:
            stays.append(number)
    return twins


def require_imagehash() -> None:
    """Fail early where near duplicates are asked for.

    Raises:
        ConfigError: ImageHash is not installed.
    """
    try:
        import imagehash  # noqa: F401
    except ImportError:
        raise ConfigError(
            f"dataset.near_duplicate needs ImageHash; run {install_hint('photos')}, or set it to null"
        ) from None


def perceptual_hash(pixels: np.ndarray) -> int:
    """64 bits that change little when a picture is scaled, recompressed or slightly retouched (DCT hash)."""
    import imagehash

    image = Image.fromarray(pixels).convert("L")
    image.thumbnail((_HASH_SIDE, _HASH_SIDE), Image.Resampling.BILINEAR)
    return int(str(imagehash.phash(image)), 16)


def _near(photo: Photo, twins: dict[str, tuple[str, int]], limit: int) -> Photo:
    if photo.reject or photo.keep or photo.photo not in twins:
        return photo
    name, bits = twins[photo.photo]
    return photo.rejected(Ingest.name, "near_duplicate", bits, limit, f"nearly the same picture as {name}")


def _checked(photo: Photo, root: str | Path, source: SourceChoice) -> tuple[Photo, int | None]:
    """The photo, checked, and its perceptual hash where that will be needed."""
    if photo.reject:
        return photo, None
    try:
        photo, pixels = _opened(photo, root, source)
    except _Unfit as unfit:
        return photo.rejected(Ingest.name, *unfit.args), None
    side = min(photo.width, photo.height)
    if side < source.min_side and not photo.keep:
        return photo.rejected(Ingest.name, "too_small", side, source.min_side), None
    return photo, None if source.near_duplicate is None else perceptual_hash(pixels)


def _opened(photo: Photo, root: str | Path, source: SourceChoice) -> tuple[Photo, np.ndarray]:
    if not photo.identity:
        raise _Unfit("no_identity_folder")
    try:
        size = size_of(root, photo.photo)
        if size > source.max_bytes:
            raise _Unfit("too_many_bytes", size, source.max_bytes)
        data = read_bytes(root, photo.photo)
        photo = replace(photo, sha256=hashlib.sha256(data).hexdigest())
        pixels = _decoded(data, source.max_pixels)
    except (OSError, ValueError) as error:
        raise _Unfit("unreadable", None, None, str(error)) from error
    height, width, _ = pixels.shape
    return replace(photo, width=width, height=height), pixels


def _decoded(data: bytes, max_pixels: int) -> np.ndarray:
    """Pixels; the size that a file's header claims is looked at before anything is decoded."""
    try:
        with open_photo(io.BytesIO(data)) as image:
            claimed = image.width * image.height
    except Image.DecompressionBombError as error:  # Pillow's own limit; its message says how many pixels
        claimed = max(map(int, re.findall(r"\d+", str(error))), default=max_pixels + 1)
    except OSError:
        raise
    except Exception as error:  # see read_photo
        raise OSError(f"{type(error).__name__}: {error}") from error
    if claimed > max_pixels:
        raise _Unfit("too_many_pixels", claimed, max_pixels)
    return read_photo(io.BytesIO(data))
