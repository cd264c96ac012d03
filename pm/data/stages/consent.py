"""Photos without a valid consent stay out; who has one is read with the list of photos, before anything is opened."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pm.data.consent.record import REASONS
from pm.data.stages.stage import Place, Remedy, Stage, Work

_WRITE = "photomaker consent template <photos> makes a file to write down who agreed to what"


@dataclass(frozen=True)
class ConsentStage(Stage):
    """What `consent=required` asks for; the verdicts are the listing's, so that growing a dataset sees them change."""

    name: ClassVar[str] = "consent"
    remedies: ClassVar[Mapping[str, Remedy]] = {
        reason: Remedy(words=_WRITE if state == "missing" else "ask the people again, and write it into the file")
        for state, reason in REASONS.items()
    }

    @property
    def wanted(self) -> bool:
        """Only where consent is required."""
        return self.config.consent == "required"

    def depends(self) -> dict[str, Any]:
        """What the photos are wanted for; nothing where consent is only noted."""
        return {"consent": self.config.purpose if self.wanted else None}

    def build(self, place: Place) -> list[Work]:
        """One part, which has nothing left to do."""
        return [Work(self.name, list, per_photo=True)]
