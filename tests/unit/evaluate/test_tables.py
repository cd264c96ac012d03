from support.evaluation import HEADS, row_of, true_reading, worse_reading

from pm.evaluate import tables


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
