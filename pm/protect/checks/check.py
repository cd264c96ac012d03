"""The kind of parts that say whether a picture may be shown, or a photo used, and what follows from it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from PIL import Image, ImageFilter

from pm.choice import Choice
from pm.errors import RequestError

Scorer = Callable[[Image.Image], float | None]
_BLUR = 12  # of the shorter side; shapes stay, nothing else


class Refused(RequestError):
    """A check forbids a picture; the message says nothing that is in it."""


@dataclass(frozen=True)
class CheckChoice(Choice, group="check", package="pm.protect.checks"):
    """A number for each picture, a bound, and a policy."""

    name: str
    threshold: float
    policy: Literal["refuse", "blur", "report", "off"]

    finds: ClassVar[str]  # what is wrong beyond the bound, in words for people

    def build(self) -> Scorer:
        """Load the model: RGB picture → its score, or None where there is nothing to score.

        Raises:
            ConfigError: what it needs is not installed, or is no such file.
        """
        raise NotImplementedError

    def beyond(self, score: float) -> bool:
        """Whether a score is one that the policy is for."""
        return score >= self.threshold


@dataclass(frozen=True)
class Checked:
    """A picture that may leave."""

    image: Image.Image
    note: str | None = None  # for whoever asked for it
    policy: str | None = None  # that was applied; None: nothing was found


class Gate:
    """A check with its policy. The model is loaded at once: a gate that cannot work must not be found out later."""

    def __init__(self, choice: CheckChoice, where: str) -> None:
        self.choice, self.where = choice, where
        self._score: Scorer | None = None if choice.policy == "off" else choice.build()
        self._lock = threading.Lock()  # not every runtime takes two pictures at once

    def check(self, image: Image.Image) -> Checked:
        """Apply the policy.

        Raises:
            Refused: by the policy `refuse`; a reference also by `blur`, since a blurred one shows nobody.
        """
        if self._score is None:
            return Checked(image)
        with self._lock:
            score = self._score(image.convert("RGB"))
        if score is None or not self.choice.beyond(score):
            return Checked(image)
        what = f"{self.choice.finds} (score {score:.2f}, bound {self.choice.threshold:g})"
        if self.choice.policy == "report":
            return Checked(image, f"the check {self.choice.name} found {what}", "report")
        if self.choice.policy == "blur" and self.where == "results":
            blurred = image.convert("RGB").filter(ImageFilter.GaussianBlur(min(image.size) / _BLUR))
            return Checked(blurred, f"blurred: the check {self.choice.name} found {what}", "blur")
        way = "change the prompt or the seed" if self.where == "results" else "give photos of adults"
        raise Refused(f"refused: the check {self.choice.name} found {what}; {way}")
