"""What happens to every picture on its way out: checked, marked, signed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from pm.protect.certificates import SigningKey, signing_key
from pm.protect.checks.check import Checked, Gate
from pm.protect.config import ProtectConfig
from pm.protect.manifest import sign


@dataclass
class Protector:
    """One for all pictures of a process; may be used by several threads."""

    config: ProtectConfig
    key: SigningKey | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Read the key.

        Raises:
            ConfigError: it, or a check, cannot be used.
        """
        if self.config.signature is not None:
            self.key = signing_key(self.config.signature.certificate, self.config.signature.key)
        self._results = None if self.config.results is None else Gate(self.config.results, "results")
        self._references = None if self.config.references is None else Gate(self.config.references, "references")

    def result(self, image: Image.Image) -> Checked:
        """What may leave of a picture.

        Raises:
            Refused: nothing.
        """
        return Checked(image) if self._results is None else self._results.check(image)

    def reference(self, image: Image.Image) -> Checked:
        """Whether a photo may be used.

        Raises:
            Refused: it may not.
        """
        return Checked(image) if self._references is None else self._references.check(image)

    def written(
        self, image: Image.Image, format: str, about: Mapping[str, Any], encode: Callable[[Image.Image], bytes]
    ) -> bytes:
        """A picture's file, marked and signed.

        Args:
            image: RGB.
            format: png, jpeg or webp.
            about: what the manifest shall say: plain values by their names.
            encode: makes the file, without a manifest.
        """
        image, watermark = self._marked(image)
        file = encode(image)
        signature = self.config.signature
        if signature is None or self.key is None:
            return file
        said = {name: value for name, value in about.items() if signature.prompt or name != "prompt"}
        return sign(file, format, self.key, said | {"watermark": watermark}, signature.timestamps)

    def _marked(self, image: Image.Image) -> tuple[Image.Image, str]:
        """The picture and what it carries, in words."""
        mark = self.config.watermark
        if mark is None:
            return image, "none"
        if min(image.size) < mark.holds_in:
            return image, f"none: {image.width} x {image.height} px is less than {mark.holds_in} px a side"
        return Image.fromarray(mark.embed(np.asarray(image.convert("RGB")))), mark.name
