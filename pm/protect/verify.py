"""What a picture tells of where it comes from: its manifest, its watermark, and what of them is missing."""

import io
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from pm.errors import RequestError, reason
from pm.protect.manifest import Signature, read
from pm.protect.watermarks.mark import Found, WatermarkChoice

_FORMATS = ("PNG", "JPEG", "WEBP")


@dataclass(frozen=True)
class Origin:
    """The findings."""

    format: str
    width: int
    height: int
    signature: Signature
    watermark: Found
    holds_in: int  # px a side from which our pictures carry a watermark

    @property
    def verdict(self) -> str:
        """One sentence."""
        signature, mark = self.signature, self.watermark.found
        if signature.found and signature.valid:
            maker = "made by AI" if signature.made_by_ai else "signed, and its manifest does not say by AI"
            return f"{maker}; unchanged since it was signed" + ("" if mark else "; no watermark was found")
        if signature.found:
            return "changed after it was signed, or its manifest is damaged" + (
                "; the watermark says it was made by PhotoMaker" if mark else "; no watermark was found"
            )
        if mark:
            return "made by PhotoMaker, as its watermark says; its manifest is missing: saved again, or cut, without it"
        return "nothing says that it was made by PhotoMaker; that is no proof that it was not"

    def record(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"verdict": self.verdict}

    def text(self) -> str:
        """For people."""
        lines = [f"{self.width} x {self.height} {self.format}: {self.verdict}", f"  manifest: {self._manifest()}"]
        made = ", ".join(f"{name} {value}" for name, value in self.signature.made.items() if value)
        lines += [f"  made with: {made}"] if made else []
        return "\n".join([*lines, f"  watermark: {self._watermark()}"])

    def _manifest(self) -> str:
        said = self.signature
        if not said.found:
            return "none"
        if not said.signer:
            return f"damaged ({'; '.join(said.problems)})"
        trust = (
            "trusted" if said.trusted else "a local test certificate, trusted by nobody" if said.local else "untrusted"
        )
        state = "valid" if said.valid else f"does not fit the picture ({', '.join(said.problems) or 'invalid'})"
        return f"{state}; signed by {said.signer} ({trust}), {said.when or 'no time'}, with {said.tool}"

    def _watermark(self) -> str:
        found = self.watermark
        if not found.found:
            small = min(self.width, self.height) < self.holds_in
            why = f"; pictures below {self.holds_in} px a side carry none" if small else ""
            return f"not found (score {found.score:.1f}, needs {found.threshold:g}){why}"
        number = "its number cannot be read" if found.number is None else f"number {found.number}"
        turned = ", mirrored" if found.mirrored else ""
        return (
            f"found (score {found.score:.1f}, needs {found.threshold:g}), {number}, at scale {found.scale:.2f}{turned}"
        )


def verify(file: bytes, watermark: WatermarkChoice, roots: str | None = None) -> Origin:
    """Read everything.

    Args:
        file: a PNG, JPEG or WebP.
        watermark: what to look for; its key has to be the one that marked.
        roots: PEM of certificates that are trusted.

    Raises:
        RequestError: not such a picture, or damaged.
    """
    try:
        with Image.open(io.BytesIO(file), formats=_FORMATS) as image:
            format = str(image.format)
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RequestError(f"cannot be read ({reason(error)}); give a PNG, JPEG or WebP picture") from error
    height, width = pixels.shape[:2]
    found = watermark.find(pixels)
    return Origin(format, width, height, read(file, format.lower(), roots), found, watermark.holds_in)
