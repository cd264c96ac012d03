"""One process without Ray: where its checkpoints go."""

import resource

import pytest
from support.loops import assert_same, make_trainer, resume

from pm.errors import CheckpointError
from pm.train.callbacks.base import Callback
from pm.train.run.summary import CHECKPOINTS


def test_a_full_disk_names_the_checkpoint_and_leaves_the_one_before(tmp_path):
    trainer = make_trainer(tmp_path / "run", checkpoint_every=3)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Fill(Callback):
        def on_step(self, step):
            if step == 6:
                resource.setrlimit(resource.RLIMIT_FSIZE, (256, limits[1]))

    trainer.callbacks.append(Fill())
    try:
        with pytest.raises(CheckpointError, match=r"step-00000006 could not be written .* resumes from step-00000003"):
            trainer.fit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [f.name for f in (tmp_path / "run" / CHECKPOINTS).iterdir()] == ["step-00000003"]  # nothing half-written
    again = resume(tmp_path / "run")
    again.fit()
    straight = make_trainer(tmp_path / "straight")
    straight.fit()
    assert_same(again.engine.gather_trainable(), straight.engine.gather_trainable())
