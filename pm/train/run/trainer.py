"""Ray Train's trainer without two idle helpers: a work-around on a private method of Ray 2.60.

`tests/unit/train/run/test_trainer.py` fails when the method or one of the helpers has gone.
"""

import os
from typing import Any

# Names of Ray's callbacks. One manages shards of Ray Data; the other cleans up after a dead controller, on a Ray that
# outlives this process. Each has a process of its own and delays every (re)start by seconds.
DATASETS, CLEANER = "DatasetsCallback", "PlacementGroupCleanerCallback"


def trainer_class() -> type:
    """`TorchTrainer` without helper processes that have nothing to do here."""
    from ray.train.torch import TorchTrainer

    base: Any = TorchTrainer  # its types are those of the former version

    idle = {DATASETS} | (set() if os.environ.get("RAY_ADDRESS") else {CLEANER})

    class Trainer(base):
        def _create_default_callbacks(self) -> list[Any]:
            return [c for c in super()._create_default_callbacks() if type(c).__name__ not in idle]

    return Trainer
