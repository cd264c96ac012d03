"""Pictures on their way out of an engine, and photos on their way in: looked at, marked, signed, counted."""

from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from pm.errors import PmError, RequestError
from pm.protect.checks.check import Checked, Refused
from pm.protect.config import ProtectConfig
from pm.protect.protector import Protector
from pm.sample.output_file import Format, picture_bytes
from serving.metrics import Recorder


class Leaving:
    """The protection of one engine."""

    def __init__(self, config: ProtectConfig, recorder: Recorder) -> None:
        """Load the key and the checks.

        Raises:
            ConfigError: one cannot be used.
        """
        self._protector, self._recorder = Protector(config), recorder

    def event(
        self, image: Image.Image, about: Mapping[str, object], how: tuple[Format, int, int], said: dict[str, Any]
    ) -> dict:
        """The event for a finished picture: its file, or that it is refused.

        Args:
            image: RGB.
            about: text entries of its file.
            how: format, quality, PNG level.
            said: `notes` and whatever else the event tells.
        """
        try:
            checked = self._counted("results", self._protector.result, image)
            file = picture_bytes(checked.image, about, *how, protector=self._protector)
        except PmError as error:
            kind = "invalid" if isinstance(error, RequestError) else "failed"
            return {"type": "error", "kind": kind, "message": str(error)}
        notes = [*said["notes"], *([checked.note] if checked.note else [])]
        return {"type": "image", "file": file, "size": checked.image.size, **said, "notes": notes}

    def preview(self, image: Image.Image, index: int, how: tuple[Format, int, int]) -> dict | None:
        """The event for a preview, which is looked at as a picture is; None: it does not leave."""
        try:
            shown = self._protector.result(image).image
        except Refused:
            return None
        return {"type": "preview", "index": index, "file": picture_bytes(shown, {}, *how), "size": shown.size}

    def references(self, find: Callable[..., list[Any]], *args: Any, **settings: Any) -> list[Any]:
        """What `find` makes of photos, each looked at.

        Raises:
            Refused: one may not be used.
        """
        found = find(*args, **settings)
        for each in found:
            self._counted("references", self._protector.reference, each.image)
        return found

    def _counted(self, where: str, check: Callable[[Image.Image], Checked], image: Image.Image) -> Checked:
        try:
            checked = check(image)
        except Refused:
            self._recorder.record("pm_checked_total", where=where, policy="refuse")
            raise
        if checked.policy:
            self._recorder.record("pm_checked_total", where=where, policy=checked.policy)
        return checked
