"""Ray's own list of checkpoints: kept while it is right, dropped when it is not."""

import json

import pytest
from support.loops import make_trainer

from pm.errors import CheckpointError
from pm.train.run.snapshot import SNAPSHOT, repair_snapshot
from pm.train.run.summary import CHECKPOINTS


@pytest.fixture
def run(tmp_path):
    make_trainer(tmp_path, steps=2, checkpoint_every=1, num_to_keep=None).fit()
    listed = [{"checkpoint_dir_name": f"step-0000000{step}"} for step in (1, 2)]
    (tmp_path / CHECKPOINTS / SNAPSHOT).write_text(json.dumps({"checkpoint_results": listed}))
    return tmp_path


def test_a_list_of_whole_checkpoints_stays(run, tmp_path_factory):
    repair_snapshot(run)
    assert (run / CHECKPOINTS / SNAPSHOT).exists()
    repair_snapshot(tmp_path_factory.mktemp("new"))  # a run that has none


@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
def test_a_wrong_list_is_dropped(run, damage):
    snapshot = run / CHECKPOINTS / SNAPSHOT
    if damage == "cut":
        snapshot.write_text(snapshot.read_text()[:20])
    elif damage == "gone":
        (run / CHECKPOINTS / "step-00000002/state.json").unlink()
    else:
        snapshot.write_text('{"something": "else"}')
    repair_snapshot(run)
    assert not snapshot.exists()


def test_a_run_without_any_whole_checkpoint_is_named(run):
    for state in (run / CHECKPOINTS).glob("*/state.json"):
        state.unlink()
    with pytest.raises(CheckpointError, match=rf"no checkpoint in {run}/checkpoints is whole; delete {run}"):
        repair_snapshot(run)
