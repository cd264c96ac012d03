"""`caption=probe`: what the toon world's probe sees of a drawn person, in the words that its base was trained with."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from pm.data.captioning.choice import CaptionChoice, Captioner
from pm.data.records import Photo

if TYPE_CHECKING:
    from pm.toon.probe import Probe as Reader


@dataclass(frozen=True)
class Probe(CaptionChoice):
    """The probe of `pm.toon.probe`. It says who is shown: for the captions of a dataset take another one."""

    path: str  # its file

    holds_model: ClassVar[bool] = True
    marked: ClassVar[bool] = True

    def build(self, root: str, *, device: str, dtype: str, batch_size: int | None) -> Captioner:
        """A `ProbeCaptioner`; a network this small needs no GPU."""
        return ProbeCaptioner(self.path)


class ProbeCaptioner:
    """`a man with pale skin, a red quiff, a full beard and thick eyebrows`, and the class word that the probe reads.

    Raises:
        CheckpointError: there is no probe at `path`.
    """

    def __init__(self, path: str):
        from pm.toon.probe import load_probe

        self._probe: Reader = load_probe(path)

    def __call__(self, photo: Photo) -> tuple[str, str]:
        import numpy as np

        from pm.photo.pixels import decode_png
        from pm.toon.attributes import Identity
        from pm.toon.captions import traits

        (read,) = self._probe.read(np.array(decode_png(photo.crop, "RGB"))[None])
        known: dict[str, Any] = {field.name: read[field.name] for field in fields(Identity)}
        person = Identity(**known)
        return f"a {person.class_word} with {traits(person)}", person.class_word
