"""What a person agreed to: who said so, when, until when and for what; and whether that holds today."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from pm.errors import DataError

MISSING, VALID = "missing", "valid"
# What a consent can be, and the reason for which a photo without a valid one is rejected.
REASONS = {
    MISSING: "no_consent",
    "expired": "consent_expired",
    "withdrawn": "consent_withdrawn",
    "not_yet": "consent_not_yet",
    "other_purpose": "consent_other_purpose",
}
# Names in files → fields. `for` is a word of Python.
_TYPED = {"by": "by", "when": "when", "until": "until", "for": "purposes", "withdrawn": "withdrawn"}
_TYPED |= {"source": "source", "licence": "licence"}
NAMES = tuple(_TYPED)
_DATES = ("when", "until", "withdrawn")


@dataclass(frozen=True)
class Consent:
    """Of a person, or of one photo. Empty fields are not said."""

    by: str = ""  # who gave it: the person, or who may speak for them
    when: str = ""  # date, ISO 8601
    until: str = ""  # the last day; "": no end
    purposes: tuple[str, ...] = ()  # for what; empty: for anything
    withdrawn: str = ""  # date
    source: str = ""  # where the photos are from
    licence: str = ""

    def state(self, purpose: str, today: date) -> str:
        """`valid`, or a key of `REASONS`.

        Args:
            purpose: what the photos are wanted for.
            today: the day that counts.
        """
        day = today.isoformat()
        if self.withdrawn and self.withdrawn <= day:
            return "withdrawn"
        if not (self.by and self.when):
            return MISSING
        if self.when > day:
            return "not_yet"
        if self.until and self.until < day:
            return "expired"
        return VALID if not self.purposes or purpose in self.purposes else "other_purpose"

    def detail(self, state: str) -> str:
        """What a reject says beside the reason."""
        said = {"expired": f"until {self.until}", "withdrawn": f"on {self.withdrawn}", "not_yet": f"from {self.when}"}
        return said.get(state, f"given for {', '.join(self.purposes)}" if state == "other_purpose" else "")

    def over(self, other: "Consent") -> "Consent":
        """This one, with what it leaves open taken from `other`."""
        return Consent(**{f.name: getattr(self, f.name) or getattr(other, f.name) for f in dataclasses.fields(self)})

    @property
    def empty(self) -> bool:
        """Nothing is said."""
        return self == Consent()


NOTHING = Consent()


def parse(values: Mapping[str, Any], where: str) -> Consent:
    """A consent as files have it: {by, when, until, for, withdrawn, source, licence}.

    Raises:
        DataError: an unknown name, or a date that is none; says where.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name not in _TYPED:
            raise DataError(f"{where}: {name!r} is not known; a consent has {', '.join(NAMES)}")
        if name == "for":
            words = value.replace(";", ",").split(",") if isinstance(value, str) else value or ()
            if not isinstance(words, (list, tuple)):
                raise DataError(f"{where}: for={value!r} must be a list of purposes, for example [training]")
            found["purposes"] = tuple(word for each in words if (word := str(each).strip()))
        else:
            text = "" if value is None else str(value).strip()
            found[_TYPED[name]] = _date(text, name, where) if name in _DATES else text
    return Consent(**found)


def _date(text: str, name: str, where: str) -> str:
    if not text:
        return ""
    try:
        return date.fromisoformat(text[:10]).isoformat()
    except ValueError:
        raise DataError(f"{where}: {name}={text!r} is not a date; write it as 2026-01-31") from None
