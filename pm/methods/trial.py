"""What a method is asked for: prompts for a person of whom there are photos. Plain data."""

from dataclasses import dataclass
from typing import Any

import numpy as np

PLACE = "{person}"  # where the noun phrase of the person stands in a template


@dataclass(frozen=True)
class Photo:
    """A photo of a person: the square around the face, or a drawing as it is."""

    image: np.ndarray  # uint8 RGB [H, W, 3]
    mask: np.ndarray | None  # bool [H, W], True on the person; None: unknown
    name: str = ""  # for messages and pages


@dataclass(frozen=True)
class Trial:
    """One prompt for one person; the same configuration gives the same trials for every method."""

    person: str  # unique, and safe as a file's name
    class_word: str
    template: str  # the prompt, with `PLACE` where the noun phrase of the person stands
    references: tuple[Photo, ...]
    held_out: tuple[Photo, ...]  # other photos of the same person; may be empty
    seeds: tuple[int, ...]  # one per image
    category: str = ""  # of the prompt: expression, attribute, decoration, action, background
    facts: Any = None  # the suite's own truth, read only by its own metrics

    @property
    def subject(self) -> str:
        """The person in plain words: "a man", "an actor"."""
        return ("an " if self.class_word[:1].lower() in "aeiou" else "a ") + self.class_word

    def prompt(self, subject: str) -> str:
        """The prompt with `subject`, for example "a man img", as the person."""
        return self.template.replace(PLACE, subject)
