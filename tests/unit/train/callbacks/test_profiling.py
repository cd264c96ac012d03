"""The trace of a few steps."""

import gzip
import json

import pytest
from support.loops import make_trainer

from pm.train.callbacks.profiling import Profile


@pytest.mark.parametrize("steps", [2, 8])
def test_a_profile_names_the_parts_of_a_step(tmp_path, steps):
    trainer = make_trainer(tmp_path, [Profile(tmp_path)], steps=steps, profiled=True)
    trainer.fit()
    for callback in trainer.callbacks:
        callback.on_end({})
    events = json.loads(gzip.decompress((tmp_path / "profile/trace.json.gz").read_bytes()))["traceEvents"]
    names = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    assert {"data", "forward", "backward", "optimizer"} <= set(names)
    assert names.count("forward") == (3 if steps == 8 else 1)
    assert "forward" in (tmp_path / "profile/table.txt").read_text()
