"""The evaluation as a picture: a few people, their references left, one portrait per row of the report right."""

from collections.abc import Sequence

from PIL import Image

from pm.evaluate.scores import ReportRow
from pm.methods.trial import Trial
from pm.sample.grid import GridRow, labelled_grid


def grid(trials: Sequence[Trial], rows: Sequence[ReportRow], people: int) -> Image.Image:
    """The first prompt of the first `people` persons: references | one image of each row, labelled."""
    firsts = list({trial.person: i for i, trial in reversed(list(enumerate(trials)))}.values())[::-1][:people]
    labels = [_short(row) for row in rows]
    lines = []
    for i in firsts:
        lines.append(
            GridRow(
                results=[_first(row, i) for row in rows],
                references=[Image.fromarray(photo.image) for photo in trials[i].references],
                caption=trials[i].prompt(trials[i].subject),
                labels=labels,
            )
        )
    return labelled_grid(lines, tile=128, title="References of people never trained on | results")


def _first(row: ReportRow, trial: int) -> Image.Image:
    """Its first picture of a trial; a white one where there is none yet."""
    pixels = row.picture(trial, 0)
    return Image.new("RGB", (8, 8), "white") if pixels is None else Image.fromarray(pixels)


def _short(row: ReportRow) -> str:
    if row.references is None:
        return row.name.split("(")[-1].rstrip(")")
    return row.name.replace(" references", " ref.")
