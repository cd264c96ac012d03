"""The paper's user study as a page: pairs of pictures without a word of who made them, and votes saved to a file.

<output>/blind.html       for those who vote: pictures and numbers that say nothing
<output>/blind.key.json   for the one who counts: which picture is whose
"""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pm.evaluate.pages.page import environment
from pm.evaluate.pages.pictures import thumbnail
from pm.evaluate.scores import ReportRow
from pm.files import write_json, write_text
from pm.methods.trial import Trial

PAGE, KEY = "blind.html", "blind.key.json"
FORMAT = 1
QUESTIONS = {
    "person": "Which looks more like the person of the photos above?",
    "prompt": "Which follows the description better?",
    "overall": "Which is better overall?",
}
_SIDE, _REFERENCE = 512, 192  # px

Choice = tuple[int, int, int]  # number of the other row, of the trial, of its image


def write_blind(
    output: Path, trials: Sequence[Trial], rows: Sequence[ReportRow], first: ReportRow, pairs: int
) -> Path | None:
    """Write the page and its key; the same pictures leave both as they are, so votes that were cast still count.

    A page of other pictures takes their place, and the old key is kept as `blind-<page>.key.json`.

    Args:
        output: folder of the evaluation.
        trials: its trials.
        rows: finished rows that `first` is compared with, one with itself left out.
        first: the row that stands in every pair.
        pairs: number of pairs, shared evenly among the others.

    Returns:
        The page, or None where there is nothing to compare.

    Raises:
        WriteError: the output cannot be written.
    """
    others = [row for row in rows if row.key != first.key]
    if not others or pairs < 1:
        return None
    made_of, old = _fingerprint(output, [first, *others], pairs), _read(output / KEY)
    if old.get("made_of") == made_of and (output / PAGE).is_file():
        return output / PAGE
    if "page" in old:
        write_json(output / f"blind-{old['page']}.key.json", old, indent=1)
    salt = secrets.token_hex(16)
    choices = drawn(trials, len(others), pairs, np.random.default_rng(int(salt, 16)))
    shown: list[dict[str, Any]] = []
    pictures: dict[str, dict[str, Any]] = {}
    for other, t, image in choices:
        pair, of = _pair(salt, trials[t], [(row, t, image) for row in (first, others[other])])
        shown.append(pair)
        pictures |= of
    page = _hidden(salt, made_of)
    key = {"format": FORMAT, "page": page, "made_of": made_of, "salt": salt, "first": first.name, "pictures": pictures}
    key["pairs"] = {pair["id"]: [picture["id"] for picture in pair["pictures"]] for pair in shown}
    data = {"format": FORMAT, "page": page, "questions": QUESTIONS, "pairs": shown}
    write_json(output / KEY, key, indent=1)
    write_text(output / PAGE, environment().get_template("blind.html.j2").render(data=data), sync=False)
    return output / PAGE


def _pair(
    salt: str, trial: Trial, both: Sequence[tuple[ReportRow, int, int]]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A pair as the page has it, and its pictures as the key has them; of both a row, its trial and its image."""
    prompt, pictures, key = trial.prompt(trial.subject), [], {}
    for row, t, image in both:
        number, pixels = _hidden(salt, row.key, t, image), row.picture(t, image)
        assert pixels is not None, "the rows are finished"
        pictures.append({"id": number, "source": thumbnail(pixels, _SIDE)})
        key[number] = {"row": row.name, "key": row.key, "person": trial.person, "prompt": prompt, "image": image}
    pictures.sort(key=lambda picture: picture["id"])  # an order that says nothing of the rows
    shown = {"id": _hidden(salt, *(picture["id"] for picture in pictures)), "pictures": pictures, "prompt": prompt}
    return shown | {"references": [thumbnail(photo.image, _REFERENCE) for photo in trial.references]}, key


def drawn(trials: Sequence[Trial], others: int, pairs: int, rng: np.random.Generator) -> list[Choice]:
    """Pairs in random order: as many of each other row as of the next, give or take one, spread over the people."""
    of_person: dict[str, list[tuple[int, int]]] = {}
    for t, trial in enumerate(trials):
        of_person.setdefault(trial.person, []).extend((t, n) for n in range(len(trial.seeds)))
    chosen: list[Choice] = []
    for other in range(others):
        wanted = pairs // others + (other < pairs % others)
        people = [list(rng.permutation(found)) for found in of_person.values()]
        while wanted and people:
            people = [people[i] for i in rng.permutation(len(people))]
            for found in people[:wanted]:
                t, image = map(int, found.pop())
                chosen.append((other, t, image))
                wanted -= 1
            people = [found for found in people if found]
    return [chosen[i] for i in rng.permutation(len(chosen))]


def _hidden(salt: str, *parts: Any) -> str:
    """A number that nobody without the salt can tell from another."""
    return hashlib.sha256(json.dumps([salt, *parts]).encode()).hexdigest()[:16]


def _fingerprint(output: Path, rows: Sequence[ReportRow], pairs: int) -> str:
    """Of the rows' pictures, by what they were made with."""
    made = [(row.name, _read(output / "pictures" / row.key / "made.json")) for row in rows]
    return hashlib.sha256(json.dumps([pairs, made], sort_keys=True).encode()).hexdigest()[:16]


def _read(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
