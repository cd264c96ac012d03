"""SDXL at its published size: keys and shapes, and the prediction of its memory."""

import pytest
import torch

from benchmarks.fullsize import shapes
from benchmarks.fullsize.budget import known, phases, predict
from benchmarks.fullsize.folder import stored_shapes
from benchmarks.fullsize.published import COUNTS, check_keys
from benchmarks.fullsize.shapes import FULL, SIZES
from benchmarks.fullsize.watch import missing
from benchmarks.rehearsal import stages


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
