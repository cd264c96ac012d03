from dataclasses import replace

import pytest
from support.evaluation import HEADS, row_of, true_reading, worse_reading

from pm.errors import ConfigError
from pm.evaluate import tables
from pm.evaluate.metrics.base import Model
from pm.evaluate.statistics import Interval


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_the_main_table_says_how_far_identity_is_between_floor_and_ceiling():
    floor = row_of(lambda t, i: dict.fromkeys(true_reading(t, i), "?"), name="floor")
    ceiling, half = row_of(true_reading, name="ceiling", seconds=1.5), row_of(worse_reading, name="adapter")
    head, _, *body = cells(tables.main_table([floor, half, ceiling], floor, ceiling, HEADS))
    assert head == ["", "identity", "share of the gap", "prompt", "diversity", "s / image"]
    assert [(row[0], row[2], row[5]) for row in body] == [
        ("floor", "0 %", "–"), ("adapter", "80 %", "–"), ("ceiling", "100 %", "1.50")
    ]  # fmt: skip


def test_attributes_have_a_column_each():
    head, _, worse = cells(tables.attribute_table([row_of(worse_reading)]))
    by_name = dict(zip(head, worse, strict=True))
    assert by_name["skin"] == "0" and by_name["hair color"] == "100"


def test_table_2a_has_the_papers_rows_in_order_and_one_best_per_column():
    rows = [row_of(true_reading, compose=c, merge="insert", references=4) for c in ("stacked", "average")]
    worse = row_of(worse_reading, compose="linear", merge="insert", references=4)
    head, _, *body = cells(tables.composing_table([*rows, worse], HEADS))
    assert head == ["4 references", "prompt ↑", "identity ↑", "diversity ↑"]
    assert [row[0] for row in body] == ["Average", "Linear", "Stacked"]
    assert "**" in body[0][2] and "**" not in body[1][2]
    assert tables.composing_table(rows[:1], HEADS) is None
    other = row_of(worse_reading, compose="average", merge="insert", references=4, kind="FastComposer")
    assert tables.composing_table([rows[0], other], HEADS) is None  # they differ in more than how they compose


def test_seeds_of_a_sweep_share_a_row():
    rows = [
        row_of(reading, compose=c, merge="insert", references=4, name=f"compose-{c}_seed-{seed}, 4 references")
        for c in ("average", "stacked")
        for seed, reading in enumerate((true_reading, worse_reading))
    ]
    one, other = (row.interval("identity").mean for row in rows[:2])
    expected = f"{50 * (one + other):.1f} ± {100 * abs(one - other) / 2**0.5:.1f}"
    over_seeds = tables.seeds_table(rows, HEADS).splitlines()
    assert over_seeds[2].startswith("| compose-average, 4 references | 2 ") and expected in over_seeds[2]
    paper = tables.composing_table(rows, HEADS).splitlines()
    assert len(paper) == 4 and "| Average " in paper[2] and "| Stacked " in paper[3]
    assert expected in paper[2]
    assert tables.seeds_table(rows[::2], HEADS) is None


def test_table_1_has_a_row_for_each_method_with_the_best_in_bold_and_the_time_for_somebody_new():
    rows = [
        replace(row_of(worse_reading, name="base alone", method="text_only", seconds=0.5), references=None),
        replace(row_of(worse_reading, name="DreamBooth, 4 references", method="dreambooth", references=4, seconds=0.5),
                seconds_to_personalise=60.0),
        row_of(true_reading, name="PhotoMaker, 1 reference", method="photomaker", references=1, seconds=0.7),
        row_of(true_reading, name="PhotoMaker, 4 references", method="photomaker", references=4, seconds=0.7),
    ]  # fmt: skip
    head, _, *body = cells(tables.methods_table(rows, HEADS))
    assert head == ["4 references", "prompt ↑", "identity ↑", "diversity ↑", "seconds ↓"]
    assert [(row[0], row[-1]) for row in body] == [
        ("base alone", "0.50"),
        ("DreamBooth", "60.50"),
        ("PhotoMaker", "0.70"),
    ]
    assert "**" in body[2][2] and "**" not in body[1][2]
    assert tables.methods_table(rows[2:], HEADS) is None


def test_lower_is_better_where_a_metric_says_so():
    column = tables.Column("FID", percent=False, higher_is_better=False)
    assert column.arrowed == "FID ↓" and column.best([3.0, None, 2.0]) == 2.0
    assert column.cell(Interval(8.41, 8.0, 9.0)) == "8.410 [8.000, 9.000]" and column.cell(None) == "–"


def test_table_2b_has_the_papers_rows_in_order():
    rows = [
        row_of(reading, name=f"condition-{c}_seed-0, 4 references", compose="stacked", merge="insert", references=4)
        for c, reading in (("wild", worse_reading), ("stacked", true_reading), ("single", worse_reading))
    ]
    _, _, *body = cells(tables.condition_table(rows, HEADS))
    assert [row[0].split(",")[0] for row in body] == [
        "one photo of each person", "this project's data", "this project's data"
    ]  # fmt: skip
    assert "**" in body[2][2] and "1 to 4" in body[2][0]
    assert tables.condition_table(rows[:1], HEADS) is None


def test_a_column_with_values_of_two_models_is_refused():
    one, other = row_of(true_reading), row_of(true_reading, name="other")
    scores = {**other.scores, "prompt": replace(other.scores["prompt"], model=Model("another probe", "f" * 16))}
    with pytest.raises(ConfigError, match="metric prompt has values of perfect probe .* and another probe ffff"):
        tables.main_table([one, replace(other, scores=scores)], None, None, HEADS)
