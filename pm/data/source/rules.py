"""What is said about photos elsewhere than in their source: corrections by hand, required consent, who is gone."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from pm.data.edits.effects import Effects


def _today() -> date:
    return datetime.now(UTC).date()


@dataclass(frozen=True)
class Rules:
    """For one listing."""

    effects: Effects = field(default_factory=Effects)
    purpose: str | None = None  # photos need a consent for it; None: they need none
    today: date = field(default_factory=_today)  # that consents are looked at
    gone_people: frozenset[str] = frozenset()  # sha256 of their names
    gone_photos: tuple[str, ...] = ()  # beginnings of their sha256
    same_place: bool = True  # the photos are where they were: when files were changed counts too

    def is_gone(self, person: str) -> bool:
        """Was this person removed?"""
        return bool(self.gone_people) and hashlib.sha256(person.encode()).hexdigest() in self.gone_people

    def is_gone_photo(self, content: bytes) -> bool:
        """Was a photo with this content removed?"""
        return hashlib.sha256(content).hexdigest().startswith(self.gone_photos)


NO_RULES = Rules()
