import numpy as np
from support.evaluation import CONFIG, row_of, trials_of, true_reading

from pm.evaluate.picture import grid


def test_the_picture_has_a_line_for_each_person_and_a_column_for_each_row():
    trials, rows = trials_of(CONFIG), [row_of(true_reading, name=name) for name in ("base (floor)", "drawn (ceiling)")]
    one, three = grid(trials, rows, 1), grid(trials, rows, 3)
    assert three.width == one.width and three.height > one.height
    assert grid(trials, rows[:1], 1).width < one.width
    assert grid(trials, rows, 99).size == grid(trials, rows, CONFIG.identities).size
    assert len(np.unique(np.asarray(one).reshape(-1, 3), axis=0)) > 50  # the references are drawn into it
