"""All pictures of an evaluation with their values, as the script of a page reads them."""

import base64
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from pm.evaluate.scores import ReportRow, Scored
from pm.evaluate.store import Store
from pm.evaluate.tables import Columns
from pm.methods.trial import Trial

EMBEDDED = 12 * 2**20  # bytes of picture files; with more of them, the page names the files beside it
_REFERENCE = 160  # px


def browsing(
    output: Path, trials: Sequence[Trial], rows: Sequence[ReportRow], columns: Columns
) -> tuple[dict[str, Any], bool]:
    """Rows, people, prompts, pictures and values as plain data; and whether the pictures are in it.

    Lists of pictures and values follow the trials. A picture that is not there yet is None, a value that is not known
    is left out.
    """
    store = Store(output, trials)
    files = {row.key: [_there(store, row.key, t, trial) for t, trial in enumerate(trials)] for row in rows}
    size = sum(f.stat().st_size for of in files.values() for trial in of for f in trial if f is not None)
    people = list(dict.fromkeys(trial.person for trial in trials))
    prompts = list(dict.fromkeys(trial.template for trial in trials))
    inside = size <= EMBEDDED

    def source(file: Path | None) -> str | None:
        if file is None:
            return None
        return data_uri(file.read_bytes(), "png") if inside else quote(file.relative_to(output).as_posix())

    first = {trial.person: trial for trial in reversed(trials)}
    data = {
        "metrics": [{"name": n, "head": c.head, "percent": c.percent, "digits": c.digits} for n, c in columns.items()],
        "people": [
            {"name": person, "references": [thumbnail(p.image, _REFERENCE) for p in first[person].references]}
            for person in people
        ],
        "prompts": [prompt.replace("{person}", "…") for prompt in prompts],
        "trials": [
            {
                "person": people.index(trial.person),
                "prompt": prompts.index(trial.template),
                "text": trial.prompt(trial.subject),
                "category": trial.category,
            }
            for trial in trials
        ],
        "rows": [
            {
                "name": row.name,
                "pictures": [[source(file) for file in trial] for trial in files[row.key]],
                "values": _values(output, row, len(trials)),
                "people": _means(row, [("per_person", person) for person in people]),
                "prompts": _means(row, [("per_prompt", prompt) for prompt in prompts]),
            }
            for row in rows
        ],
    }
    return data, inside


def _there(store: Store, key: str, trial: int, asked: Trial) -> list[Path | None]:
    paths = [store.path(key, (trial, n)) for n in range(len(asked.seeds))]
    return [path if path.is_file() else None for path in paths]


def _means(row: ReportRow, which: Sequence[tuple[str, str]]) -> list[dict[str, float]]:
    """Of each person or prompt its values by metric."""
    return [
        {name: short(found[key]) for name, score in row.scores.items() if key in (found := getattr(score, attribute))}
        for attribute, key in which
    ]


def _values(output: Path, row: ReportRow, trials: int) -> list[dict[str, list[float]]]:
    """Of each trial its values by metric: those of the stored files that the model of the report gave."""
    result: list[dict[str, list[float]]] = [{} for _ in range(trials)]
    for name, score in row.scores.items():
        stored = _stored(output / "values" / row.key / f"{name}.json", score)
        if len(stored) != trials:
            continue
        for found, trial in zip(result, stored, strict=True):
            if trial["values"]:
                found[name] = [short(value) for value in trial["values"]]
    return result


def _stored(file: Path, score: Scored) -> Sequence[Mapping[str, Any]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not measured yet
        return []
    model = None if score.model is None else dataclasses.asdict(score.model)
    return content["trials"] if content.get("model") == model and score.interval is not None else []


def short(value: float) -> float:
    """Of a page that has thousands."""
    return round(value, 5)


def thumbnail(pixels: np.ndarray, side: int) -> str:
    """A picture, uint8 [H, W, 3], as a data URI, at most `side` px; without anything but its pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    kind = "png" if max(image.size) <= 128 else "jpeg"  # small drawings suffer from JPEG
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 88} if kind == "jpeg" else {}))
    return data_uri(buffer.getvalue(), kind)


def data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
