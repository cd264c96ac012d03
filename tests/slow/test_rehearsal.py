"""The rehearsal of SDXL at a tenth of its width, in one process."""

import pytest

from benchmarks.fullsize.results import Results
from benchmarks.fullsize.shapes import TENTH
from benchmarks.rehearsal.__main__ import COLUMNS, rehearse
from benchmarks.rehearsal.stages import Place
from pm.errors import ConfigError


@pytest.mark.timeout(600)
def test_everything_at_a_tenth_of_the_width(tmp_path):
    place = Place(tmp_path / "rehearsal", TENTH)
    # Other engines and formats are settings of these, and have tests of their own on a smaller base.
    wanted = ["folder", "preprocess", "train/ddp", "resume", "export/native", "generate", "serve", "evaluate"]
    results = rehearse(place, 24, inside=True, wanted=wanted)
    rows = results.rows
    assert list(rows) == wanted and all(results.done(name) for name in wanted), rows
    assert rows["preprocess"]["photos"] == 8
    assert rows["resume"]["equal"] and rows["resume"]["resumed_from"] == "step-00000001"
    assert rows["export/native"]["bytes"] > 1e6
    assert rows["serve"]["status"] == 200 and rows["generate"]["picture"] == [128, 128]
    assert all(row["held"] > 0.1 and row["seconds"] > 0 for row in rows.values())
    table = results.table(COLUMNS)
    assert all(f"| {name} " in table for name in wanted)
    # Again: nothing is left to do, whatever the limit; with other settings the rows are not mixed.
    assert rehearse(place, 0, inside=True, wanted=wanted).rows == rows
    with pytest.raises(ConfigError, match="measured with size='tenth', not 'full'"):
        Results(place.home, {"size": "full", "workers": 0})
