"""The first hour with a GPU, dry: every row of it on the CPU, a tenth as wide."""

import json
import sys

import pytest
import torch

from benchmarks.fullsize.shapes import TENTH
from benchmarks.gpu import __main__ as hour
from benchmarks.gpu.rig import Rig


@pytest.mark.timeout(600)
def test_every_row_is_measured_on_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "deepspeed", None)  # it takes long to import, and a machine may not have it
    rig = Rig(tmp_path, TENTH, "cpu", steps=2, repeats=1, compiled=("off",))
    steps = [step for step in hour.STEPS if step != "toon"]  # `pm.toon.pretrain` and its training have tests
    results = hour.run(rig, steps)
    expected = {f"{step}: {name}" for step in steps for name in hour.STEPS[step].rows(rig)}
    assert results.rows.keys() == expected
    assert {name: row["error"] for name, row in results.rows.items() if "error" in row} == {}
    left_out = {name for name, row in results.rows.items() if "not_available" in row}
    assert left_out == {"training: zero2, one rank", "training: zero3, one rank"}
    rows = results.rows
    # Random weights, and bfloat16: far from equal, but of one picture.
    assert all(rows[f"sampling: against diffusers, {n}"]["relative_difference"] < 0.3 for n in (1, 2))
    assert 0 < rows["precision: U-Net call"]["relative_error"] < 0.2
    assert rows["training: as this version has it, micro 1"]["samples_per_s"] > 0
    assert rows["training: checkpoint and restore"]["gib"] > 0.01
    assert rows["parts: adapter switch"]["first_use_s"] > 0
    report = (tmp_path / "report.md").read_text()
    assert all(f"### {step.capitalize()}" in report for step in steps)
    # Rows that are there are not measured again, and no row begins after the deadline.
    monkeypatch.setattr(hour, "_measured", lambda rig, row: pytest.fail("measured again"))
    (tmp_path / "results.json").write_text(
        json.dumps({"about": results.about, "rows": {name: row for name, row in rows.items() if name not in left_out}})
    )
    rig.deadline = 0.0
    assert hour.run(rig, steps).rows.keys() == expected - left_out


def test_a_row_that_fails_ends_no_hour(tmp_path):
    rig = Rig(tmp_path, TENTH, "cpu")

    def full() -> dict:
        raise torch.OutOfMemoryError("out of memory\nand more")

    assert hour._measured(rig, full)["out_of_memory"] == "out of memory"
    assert hour._measured(rig, lambda: 1 / 0)["error"] == "ZeroDivisionError: division by zero"
