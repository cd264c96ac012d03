"""`caption=sidecar`: what is written beside the photo."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pm.data.captioning.choice import CaptionChoice, Captioner
from pm.data.records import Photo
from pm.data.source.beside import read_sidecar, read_text
from pm.photo.types import SidecarError, SidecarMissing

_LONGEST = 2**14  # characters; the text encoders read about 300


@dataclass(frozen=True)
class Sidecar(CaptionChoice):
    """Has no settings."""

    def build(self, root: str, *, device: str, dtype: str, batch_size: int | None) -> Captioner:
        """A `SidecarCaptioner`."""
        return SidecarCaptioner(root)


class SidecarCaptioner:
    """Caption and class word from `<photo>.json` beside the photo, or the caption alone from `<photo>.txt`."""

    def __init__(self, root: str | Path):
        self.root = root

    def __call__(self, photo: Photo) -> tuple[str, str]:
        content: dict[str, Any] = {}
        with contextlib.suppress(SidecarMissing):
            content = read_sidecar(self.root, photo.photo)
        caption = content.get("caption")
        if not isinstance(caption, str) or not caption.strip():
            caption = read_text(self.root, photo.photo)
        if caption is None:
            raise SidecarError("no_caption") if content else SidecarMissing()
        if not caption.strip():
            raise SidecarError("no_caption")
        if len(caption) > _LONGEST:
            raise SidecarError("caption_too_long")
        return " ".join(caption.split()), str(content.get("class_word") or "").lower()
