"""Rows, pictures and values for the pages of an evaluation."""

import dataclasses
import json

import numpy as np

from pm.evaluate.pages.page import Content, Section
from pm.evaluate.store import Store
from pm.markdown import table
from pm.photo.pixels import encode_png
from support.evaluation import HEADS, row_of, true_reading, worse_reading

METHODS = ("PhotoMaker", "DreamBooth", "IP-Adapter")


def rows_of(trials, name="row"):
    rows = []
    for key, reading in (("one", true_reading), ("two", worse_reading)):
        row = dataclasses.replace(row_of(reading, name=f"{name} {key}"), key=key)
        rows.append(row)
    return rows


def content(trials, rows, missing="", more=(), pairs=()):
    tables = [Section("All rows", table(["", "identity"], [[row.name, "**1.0 [0.5, 1.5]**"] for row in rows])), *more]
    return Content("Evaluation", "5 people", missing, tables, trials, rows, HEADS, {"base": "toon"}, pairs)


def pair_section(reference):
    """A table of pairs, as it is before somebody chooses another reference."""
    body = [[f"{reference} − row one", "**-1.0 [-1.5, -0.5]**", "–", "–"]]
    return Section("Paired differences", table(["", *(column.head for column in HEADS.values())], body), "", reference)


def fill(output, trials, rows, but=()):
    """Pictures of every row, each of its own grey; and the values of a metric."""
    store = Store(output, trials)
    for r, row in enumerate(rows):
        for i, item in enumerate(store.items()):
            if (row.key, item) not in but:
                store.save(row.key, item, encode_png(np.full((8, 8, 3), 40 * r + i, np.uint8)))
        stored = [{"values": [0.25, 0.75]} for _ in trials]
        (output / "values" / row.key).mkdir(parents=True)
        model = dataclasses.asdict(row.scores["identity"].model)
        file = output / "values" / row.key / "identity.json"
        file.write_text(json.dumps({"model": model, "trials": stored}))
        (file.parent / "prompt.json").write_text(json.dumps({"model": None, "trials": stored}))
    return store


def blind_rows(names=METHODS):
    """Rows whose every picture is of a grey of its own."""
    rows = []
    for i, name in enumerate(names):
        pixels = [np.full((8, 8, 3), 20 * i + t, np.uint8) for t in range(20)]
        row = row_of(true_reading, name=name)
        picture = lambda t, n, pixels=pixels: pixels[2 * t + n]  # noqa: E731
        rows.append(dataclasses.replace(row, key=name.lower(), picture=picture))
    return rows
