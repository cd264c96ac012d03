"""Stage 1: find the photos and let in those that can be read and are large enough (paper section 3.3)."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pm.data.pixels import read_photo
from pm.data.records import Photo
from pm.errors import DataError

STAGE = "ingest"
# Photo formats by name. Some of them Pillow cannot read; those photos are rejected with a row, not overlooked.
PHOTO_SUFFIXES = frozenset(
    f".{name}"
    for name in ("png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "tif", "tiff", "gif", "avif", "heic", "heif")
    + ("jp2", "ppm", "tga", "raw", "dng", "cr2", "nef")
)
_LAYOUT = "photos are expected at <root>/<person>_<class word>/<photo>, for example faces/anna_woman/1.jpg"


def find_photos(root: str | Path) -> list[Photo]:
    """All photos under `root`, sorted by identity (the first folder) and name; nothing is opened.

    Photos that lie in the root itself are listed with an empty identity, to be rejected.

    Raises:
        DataError: the root is missing, not a folder, or has no photo in any identity folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"dataset.root={root} is not a folder; {_LAYOUT}")
    found = []
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        inside = Path(folder).relative_to(root)
        identity = inside.parts[0] if inside.parts else ""
        for name in files:
            if Path(name).suffix.lower() in PHOTO_SUFFIXES and not name.startswith("."):
                found.append(Photo(identity, (inside / name).as_posix()))
    if not any(photo.identity for photo in found):
        where = f"only {len(found)} photos outside any identity folder" if found else "no photos"
        raise DataError(f"dataset.root={root} has {where}; {_LAYOUT}")
    return sorted(found, key=lambda photo: (photo.identity, photo.photo))


def listing_digest(root: str | Path, photos: Sequence[Photo]) -> str:
    """What identifies the raw photos without reading them: names and sizes, sidecars included."""
    digest = hashlib.sha256()
    for photo in photos:
        path = Path(root, photo.photo)
        for file in (path, path.with_suffix(".json")):
            size = file.stat().st_size if file.exists() else None
            digest.update(f"{photo.photo}\0{file.suffix}\0{size}\n".encode())
    return digest.hexdigest()[:16]


def ingest(photos: Sequence[Photo], root: str | Path, min_side: int) -> list[Photo]:
    """Check every photo, whole identities at a time, and note its hash and upright size.

    Rejects: outside an identity folder, unreadable or cut short, smaller than `min_side` pixels, same file twice.
    """
    first: dict[tuple[str, str], str] = {}
    result = []
    for photo in photos:
        photo = _read(photo, Path(root), min_side)
        # A second copy would let the target be its own reference.
        if photo.reject is None and first.setdefault((photo.identity, photo.sha256), photo.photo) != photo.photo:
            photo = photo.rejected(STAGE, "duplicate")
        result.append(photo)
    return result


def _read(photo: Photo, root: Path, min_side: int) -> Photo:
    if not photo.identity:
        return photo.rejected(STAGE, "no_identity_folder")
    try:
        sha256 = hashlib.sha256((root / photo.photo).read_bytes()).hexdigest()
        height, width, _ = read_photo(root / photo.photo).shape
    except (OSError, ValueError):
        return photo.rejected(STAGE, "unreadable")
    photo = replace(photo, sha256=sha256, width=width, height=height)
    side = min(width, height)
    return photo.rejected(STAGE, "too_small", side, min_side) if side < min_side else photo
