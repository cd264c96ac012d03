"""A sweep's table: from the folders of its cells, over seeds."""

import statistics

import pytest
from support.sweeps import OFF, finished

from pm.errors import PmError
from pm.train.run.sweep import finish_sweep, read_cells, sweep_table


@pytest.fixture
def sweep(tmp_path):
    """Two composers with two seeds each, of which one failed."""
    for compose, offset in (("average", 0.2), ("stacked", 0.1)):
        for seed in (0, 1):
            name, overrides = f"compose-{compose}_seed-{seed}", [f"compose={compose}", f"seed={seed}", "data=a b"]
            if (compose, seed) == ("stacked", 1):
                finished(tmp_path, name, overrides, error="the loss is NaN")
            else:
                losses = [9.0] * 18 + [offset + 0.1 * seed, offset + 0.1 * seed + 0.02]  # the last tenth counts
                finished(tmp_path, name, overrides, losses)
    return tmp_path


def test_a_row_for_each_setting_with_mean_and_deviation_over_seeds(sweep):
    header, rows = sweep_table(read_cells(sweep))
    assert header == ["compose", "seeds", "loss, last tenth", "samples/s", "minutes"]
    deviation = statistics.stdev([0.21, 0.31])
    assert rows[0] == ["average", "2", f"0.2600 ± {deviation:.4f}", "8.000 ± 0.000", "2.000 ± 0.000"]
    assert rows[1] == ["stacked", "1 of 2 (1 failed)", "0.1100", "8.000", "2.000"]


def test_what_failed_is_said_with_the_command_that_runs_it_again(sweep, capsys):
    with pytest.raises(PmError, match="1 of 4 cells failed; the others are finished"):
        finish_sweep(sweep, "ablation", OFF, "python pipelines/train.py -m")
    shown = capsys.readouterr().out
    assert "compose-stacked_seed-1 failed: the loss is NaN" in shown
    assert "again: python pipelines/train.py -m compose=stacked seed=1 'data=a b'" in shown
    report = (sweep / "sweep.md").read_text()
    assert "| average | 2 " in report and "the loss is NaN" in report


def test_a_cell_that_is_run_again_takes_its_place(sweep):
    name = "compose-stacked_seed-1"
    for file in (sweep / name).iterdir():
        file.unlink()
    (sweep / name).rmdir()
    finished(sweep, name, ["compose=stacked", "seed=1", "data=a b"], [9.0] * 18 + [0.3, 0.3])
    finish_sweep(sweep, "ablation", OFF, "train")
    assert sweep_table(read_cells(sweep))[1][1][:2] == ["stacked", "2"]
