"""The rehearsal of SDXL at a tenth of its width, in one process."""

import pytest
import torch

from benchmarks.fullsize import shapes
from benchmarks.fullsize.budget import known, phases, predict
from benchmarks.fullsize.folder import stored_shapes
from benchmarks.fullsize.published import COUNTS, check_keys
from benchmarks.fullsize.results import Results
from benchmarks.fullsize.shapes import FULL, SIZES, TENTH
from benchmarks.fullsize.watch import missing
from benchmarks.rehearsal import stages
from benchmarks.rehearsal.__main__ import COLUMNS, rehearse
from benchmarks.rehearsal.stages import Place
from pm.errors import ConfigError


def test_the_full_size_is_the_published_checkpoints():
    with torch.device("meta"):
        modules = {name: build() for name, build in shapes.builders(FULL).items()}
    for name, module in modules.items():
        found = stored_shapes(name, module)
        check_keys(name, found, FULL)
        assert sum(torch.Size(shape).numel() for shape in found.values()) == COUNTS[name]
    found["vision_model.post_layernorm.bias"] = (1023,)
    with pytest.raises(SystemExit, match="image_encoder: .*bias is .1023., published is .1024."):
        check_keys("image_encoder", found, FULL)


def test_the_prediction_knows_what_it_is_made_of():
    for size in SIZES.values():
        numbers = known(size)
        assert numbers.weights["U-Net"] == numbers.training.unet
        assert predict(numbers, "train/ddp", ema=True) > predict(numbers, "train/ddp")
        # What a resumed run has read stays: weights and two moments.
        more = predict(numbers, "resume") - predict(numbers, "train/ddp")
        assert more == pytest.approx(12 * numbers.training.trained / 2**30)
        for stage in stages.names():
            assert predict(numbers, stage) == max(phases(numbers, stage).values())
    full = known(FULL)
    assert full.weights["U-Net"] == COUNTS["unet"]
    assert max(predict(full, stage, ema=True) for stage in stages.names()) < 24


def test_too_little_memory_or_disk_is_said(tmp_path):
    assert missing(0, tmp_path / "not/there", 0) is None
    assert "GiB of memory are needed" in missing(1e6, tmp_path, 0)
    assert f"GiB are needed in {tmp_path}" in missing(0, tmp_path, 1e9)


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
