"""The kind of parts that say what is asked of whom: people with photos, prompts and seeds."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, MinLen

from pm.choice import Choice
from pm.methods.trial import PLACE, Photo, Trial
from pm.model.config import BaseConfig

__all__ = ["PLACE", "Given", "Photo", "ProtocolConfig", "SuiteChoice", "Trial"]


@dataclass(frozen=True)
class ProtocolConfig:
    """People × prompts × images, the shape of the paper's evaluation (section 4.1: 25 × 40 × 4)."""

    identities: Annotated[int, Ge(1)]
    prompts: Annotated[int, Ge(1)]  # per identity
    images: Annotated[int, Ge(1)]  # per prompt
    references: Annotated[tuple[int, ...], MinLen(1), Ge(1)]  # numbers of ID images; one row each per method
    seed: int
    size: Annotated[int, Ge(1)]  # px of drawn reference photos


@dataclass(frozen=True)
class Given:
    """A row whose pictures there are."""

    label: str
    fingerprint: str  # of the pictures: others are not taken for them
    png: Callable[[int, int], bytes]  # number of the trial, of its image → PNG file


@dataclass(frozen=True)
class SuiteChoice(Choice, group="suite", package="pm.evaluate.suites"):
    """A suite and its settings (`conf/suite/*.yaml`)."""

    name: str
    protocol: ProtocolConfig
    metrics: tuple[Any, ...] = field(default=(), kw_only=True)  # columns where the configuration names no others

    makes: ClassVar[bool] = True  # False: there are no pictures to make, and neither base nor methods count

    def title(self) -> str:
        """What the report is headed with."""
        raise NotImplementedError

    def check(self, base: BaseConfig) -> None:
        """Before anything is loaded: whether the suite says anything about this base.

        Raises:
            ConfigError: it does not.
        """

    def trials(self) -> list[Trial]:
        """All prompts for all people, those of a person in a row; always the same.

        Raises:
            DataError: photos or prompts are missing.
        """
        raise NotImplementedError

    def given(self, trials: Sequence[Trial]) -> list["Given"]:
        """Rows that no method has to make: true pictures, or those of other systems.

        Raises:
            DataError: pictures are missing or damaged.
        """
        return []

    def about(self) -> dict:
        """What makes two reports comparable: plain values."""
        return {"suite": self.name} | dataclasses.asdict(self.protocol)
