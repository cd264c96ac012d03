"""`marking=auto`: the paper's rule where what it needs is installed, else the simple one."""

from dataclasses import dataclass

from pm.data.captioning.marking.choice import Marker
from pm.data.captioning.marking.paper import Paper


@dataclass(frozen=True)
class Auto(Paper):
    """Each row says which of the two it was (`class_rule`: scored | first)."""

    @property
    def holds_model(self) -> bool:
        """As for `Paper`, where its packages are installed."""
        return not self.missing()

    def build(self, *, device: str) -> Marker | None:
        """As for `Paper`; None where something is missing."""
        return None if self.missing() else super().build(device=device)
