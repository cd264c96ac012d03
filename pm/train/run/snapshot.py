"""Ray Train's own list of a run's checkpoints, a private file of Ray 2.60, when it is damaged."""

import json
from pathlib import Path

from pm.errors import CheckpointError
from pm.train.checkpoint import is_complete, newest_complete
from pm.train.run.summary import CHECKPOINTS

SNAPSHOT = "checkpoint_manager_snapshot.json"


def repair_snapshot(run_dir: Path) -> None:
    """Drop Ray's list of checkpoints if it was cut off in writing, or names one that is gone or damaged.

    The workers then look at the folders themselves.

    Raises:
        CheckpointError: there are checkpoints, but none is whole.
    """
    root = run_dir / CHECKPOINTS
    snapshot = root / SNAPSHOT
    if not snapshot.exists():
        return
    try:
        results = json.loads(snapshot.read_text())["checkpoint_results"]
        intact = all(is_complete(root / result["checkpoint_dir_name"]) for result in results)
    except (ValueError, KeyError, TypeError):
        intact = False
    if intact:
        return
    if newest_complete(root) is None and any(root.glob("step-*")):
        raise CheckpointError(f"no checkpoint in {root} is whole; delete {run_dir} to start again") from None
    snapshot.unlink()
