"""`marking=simple`: the first class word, mostly the sentence's subject."""

from dataclasses import dataclass

from pm.data.captioning.marking.choice import Marker, MarkingChoice


@dataclass(frozen=True)
class Simple(MarkingChoice):
    """Has no settings and needs no model."""

    def build(self, *, device: str) -> Marker | None:
        """None: no marker."""
        return None
