"""Files of votes of a blind page, counted: who was preferred to whom, with intervals."""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pm.errors import ConfigError, DataError
from pm.evaluate.pages.blind import FORMAT, QUESTIONS
from pm.evaluate.statistics import Interval
from pm.markdown import table

NONE = "none"  # no difference
_VOTERS = 5  # with fewer, resampling them says little


@dataclass(frozen=True)
class VotesConfig:
    """Which files to count (`conf/votes.yaml`)."""

    votes: tuple[str, ...]  # files, or folders of them
    key: str  # file beside the page

    def __post_init__(self) -> None:
        if not self.votes or not self.key:
            raise ConfigError(
                "votes= and key= are needed: files that voters saved, and the blind.key.json beside the page, as in "
                "photomaker votes votes=[anna.json,ben.json] key=runs/evaluate/blind.key.json"
            )


@dataclass(frozen=True)
class Preference:
    """Of one question, the first row against another. Shares of all answers, 0 to 1."""

    question: str
    other: str
    votes: int
    voters: int
    first: Interval  # the first row is preferred
    none: Interval  # no difference
    second: Interval  # the other one is


def count(config: VotesConfig) -> str:
    """The preferences as a table.

    Raises:
        DataError: the key or a file is damaged, of another page or was changed, or a voter is counted twice.
    """
    key = _read(Path(config.key), "key of a blind page", ("page", "first", "pairs", "pictures"))
    files = _files(config.votes)
    found = preferences(key, ballots(key, files))
    if not found:
        raise DataError(f"no pair is answered in {', '.join(map(str, files))}")
    order = [(q, other) for other in dict.fromkeys(p.other for p in found) for q in QUESTIONS]
    body = [
        [p.other, p.question, str(p.votes), str(p.voters), *(f"{share}" for share in (p.first, p.none, p.second))]
        for p in sorted(found, key=lambda p: order.index((p.question, p.other)))
    ]
    first, few = key["first"], any(p.voters < _VOTERS for p in found)
    header = ["compared with", "question", "votes", "voters", f"{first} preferred", "no difference", "other preferred"]
    return "\n\n".join(
        [
            f"Preferences, percent with 95 % intervals: {first} against each other",
            table(header, body),
            f"The intervals are bootstrapped over voters; with fewer than {_VOTERS}, Wilson's over votes"
            + (", which takes the votes of one person for independent and is too narrow." if few else "."),
        ]
    )


Ballot = dict[str, dict[str, str]]  # pair → question → picture, or NONE


def ballots(key: Mapping[str, Any], files: Sequence[Path]) -> dict[str, Ballot]:
    """The answers of each voter.

    Raises:
        DataError: see `count`.
    """
    found: dict[str, Ballot] = {}
    by: dict[str, Path] = {}
    for file in files:
        content = _read(file, "file of votes", ("page", "voter", "votes"))
        if content["page"] != key["page"]:
            raise DataError(
                f"{file} has votes of page {content['page']}, and the key is of page {key['page']}; give the key that "
                "was written with that page (an older one is blind-<page>.key.json)"
            )
        voter = content["voter"]
        if voter in by:
            raise DataError(
                f"{by[voter]} and {file} are of the same voter ({voter}); give only the one that was saved last"
            )
        try:
            found[voter], by[voter] = _ballot(key, content["votes"]), file
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(f"{file} was changed since the page saved it ({error}); ask for the file again") from error
    return found


def _ballot(key: Mapping[str, Any], votes: Sequence[Mapping[str, Any]]) -> Ballot:
    ballot: Ballot = {}
    for vote in votes:
        pair, answers = vote["pair"], vote["answers"]
        if pair not in key["pairs"]:
            raise ValueError(f"pair {pair!r} is not on the page")
        if pair in ballot:
            raise ValueError(f"pair {pair} is answered twice")
        for question, answer in answers.items():
            if question not in QUESTIONS or answer not in (NONE, *key["pairs"][pair]):
                raise ValueError(f"pair {pair} has {question}={answer!r}")
        ballot[pair] = dict(answers)
    return ballot


def preferences(key: Mapping[str, Any], found: Mapping[str, Ballot]) -> list[Preference]:
    """Shares by question and other row."""
    counts: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0, 0]))
    for voter, ballot in found.items():
        for pair, answers in ballot.items():
            rows = {picture: key["pictures"][picture]["row"] for picture in key["pairs"][pair]}
            other = next(row for row in rows.values() if row != key["first"])
            for question, answer in answers.items():
                place = 1 if answer == NONE else 0 if rows[answer] == key["first"] else 2
                counts[question, other][voter][place] += 1
    return [
        Preference(question, other, sum(map(sum, of.values())), len(of), *shares(list(of.values())))
        for (question, other), of in counts.items()
    ]


def shares(voters: Sequence[Sequence[int]]) -> list[Interval]:
    """The share of each answer with its interval, of the counts of each voter.

    Votes of one voter are alike, so voters are resampled, whole; with too few of them, Wilson's interval of the votes.
    """
    counts = np.asarray(voters, dtype=np.float64)
    whole = counts.sum(0)
    if len(counts) < _VOTERS:
        return [wilson(int(n), int(whole.sum())) for n in whole]
    drawn = counts[np.random.default_rng(0).integers(len(counts), size=(2000, len(counts)))].sum(1)
    low, high = np.percentile(drawn / drawn.sum(1, keepdims=True), [2.5, 97.5], axis=0)
    return [Interval(float(n / whole.sum()), float(a), float(b)) for n, a, b in zip(whole, low, high, strict=True)]


def wilson(hits: int, of: int) -> Interval:
    """A share with Wilson's 95 % score interval, which stays inside 0 to 1 (Wilson 1927)."""
    z, share = 1.959964, hits / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def _files(places: Sequence[str]) -> list[Path]:
    files: list[Path] = []
    for place in map(Path, places):
        files += sorted(place.glob("*.json")) if place.is_dir() else [place]
    if not files:
        raise DataError(f"no file of votes (*.json) in {', '.join(places)}")
    return files


def _read(file: Path, what: str, keys: Sequence[str]) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        missing = [key for key in keys if key not in content]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{file.absolute()} cannot be read as the {what} ({error})") from error
    if not isinstance(content, dict) or missing or content.get("format") != FORMAT:
        raise DataError(f"{file.absolute()} is no {what}" + (f": it has no {', '.join(missing)}" if missing else ""))
    return content
