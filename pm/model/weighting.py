"""Weights in prompts, as people write them: `(red hat:1.2)`, `(red hat)`, `[red hat]`, `\\(`, and `BREAK`.

The syntax is that of AUTOMATIC1111's web UI, which most interfaces took over. What a weight does to a token is in
`pm.model.long_text`.
"""

import re
from dataclasses import dataclass
from typing import Literal

from pm.errors import RequestError

Weighting = Literal["explicit", "full", "none"]
WEIGHTINGS = ("explicit", "full", "none")
MOST = 10.0  # a weight beyond is a slip of the pen: (hat:12) for (hat:1.2)
_STEP = 1.1  # of a pair of brackets without a number
_CLOSING = {")": "(", "]": "["}
# A number behind a colon. "(16:9)" and "(at 10:30)" are no weights: behind a digit it needs a decimal point.
_NUMBER = re.compile(r":\s*([+-]?(?:\d+\.\d*|\.\d+)|(?<!\d:)(?<!\d:\s)[+-]?\d+)\s*$")
_LONGEST = 32  # characters of a number, with its colon
_BREAK = re.compile(r"\s*(?<!\w)BREAK(?!\w)\s*")


@dataclass(frozen=True)
class Weighted:
    """A text without the syntax."""

    text: str
    weights: tuple[float, ...]  # of each character
    breaks: tuple[int, ...] = ()  # characters before which a new chunk begins, ascending

    def cut(self, start: int, end: int) -> "Weighted":
        """Without the characters `start` to `end`."""
        gone = end - start
        moved = (at if at <= start else max(start, at - gone) for at in self.breaks)
        return Weighted(
            self.text[:start] + self.text[end:], self.weights[:start] + self.weights[end:], tuple(dict.fromkeys(moved))
        )

    def neutral(self, start: int, end: int) -> "Weighted":
        """With the characters `start` to `end` at weight 1."""
        return Weighted(self.text, (*self.weights[:start], *[1.0] * (end - start), *self.weights[end:]), self.breaks)


def read_weights(prompt: str, weighting: Weighting = "explicit") -> Weighted:
    """Take the syntax out of a prompt.

    Weights inside each other multiply. Brackets that are not closed are text.

    Args:
        prompt: what the user wrote.
        weighting: "explicit": `(hat:1.2)`, escapes and BREAK are read, and brackets without a number are text; "full":
            those too, a round pair is 1.1 and a square one 1 / 1.1; "none": everything is text.

    Raises:
        RequestError: no such way, or a weight out of range.
    """
    if weighting not in WEIGHTINGS:
        raise RequestError(f"prompt_weighting={weighting!r} is not one of {', '.join(WEIGHTINGS)}")
    if weighting == "none":
        return Weighted(prompt, (1.0,) * len(prompt))
    letters, weights = _parsed(prompt, full=weighting == "full")
    found = Weighted("".join(letters), tuple(weights))
    breaks: list[int] = []
    while match := _BREAK.search(found.text):
        found = found.cut(match.start(), match.end())
        # The two sides stay two words, for whoever reads the text without its breaks.
        if 0 < match.start() < len(found.text):
            head, tail = found.text[: match.start()], found.text[match.start() :]
            found = Weighted(f"{head} {tail}", (*found.weights[: len(head)], 1.0, *found.weights[len(head) :]))
            breaks.append(match.start() + 1)
        else:
            breaks.append(match.start())
    inside = sorted({at for at in breaks if 0 < at < len(found.text)})
    return Weighted(found.text, found.weights, tuple(inside))


def _parsed(prompt: str, full: bool) -> tuple[list[str], list[float]]:
    """Characters and their weights, brackets and escapes gone."""
    letters: list[str] = []
    weights: list[float] = []
    opened: list[int] = []  # where the brackets that are not closed yet stand in `letters`
    position = 0
    while position < len(prompt):
        letter, position = prompt[position], position + 1
        if letter == "\\" and prompt[position : position + 1] in ("(", ")", "[", "]", "\\"):
            letter, position = prompt[position], position + 1
        elif letter in "([":
            opened.append(len(letters))
        elif letter in _CLOSING:
            partner = next((i for i in reversed(opened) if letters[i] == _CLOSING[letter]), None)
            if partner is not None:
                # A bracket inside that has no partner is text: "(a [b:1.2)".
                opened = opened[: opened.index(partner)]
                if _close(letters, weights, partner, letter, full, prompt):
                    continue
        letters.append(letter)
        weights.append(1.0)
    return letters, weights


def _close(letters: list[str], weights: list[float], start: int, closing: str, full: bool, prompt: str) -> bool:
    """Weigh what stands behind the bracket at `start`; False: the pair is text."""
    tail = max(start + 1, len(letters) - _LONGEST)
    number = _NUMBER.search("".join(letters[tail:])) if closing == ")" else None
    if number is not None:
        factor = float(number[1])
        if not 0 <= factor <= MOST:
            way_out = "put it into negative_prompt" if factor < 0 else "write for example 1.2"
            raise RequestError(
                f"weight {number[1]} in prompt {prompt[:200]!r} is out of range 0 to {MOST:g}; {way_out}"
            )
        del letters[tail + number.start() :], weights[tail + number.start() :]
    elif full:
        factor = _STEP if closing == ")" else 1 / _STEP
    else:
        return False
    del letters[start], weights[start]
    weights[start:] = [weight * factor for weight in weights[start:]]
    return True
