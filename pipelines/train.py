"""Dataset → adapter; the same command again resumes the run, `-m` sweeps.

photomaker train data=data/mine name=mine
"""

import sys
from pathlib import Path

from pipelines._command_line import as_typed
from pipelines._entry import entry, was_given
from pipelines._merge import check_merge
from pipelines._sweep import run_cell, run_name
from pm.config import from_mapping
from pm.data.records import require_dataset
from pm.train.run.config import RunConfig

# Keys of the command line alone: short names for what is in `adapter` and `dataset`, and where things are.
ALIASES = {"merge": None, "data": str, "draw": int, "wild": str, "storage_path": str}


@entry("train", RunConfig, extra=ALIASES, run=run_cell)
def main(cfg: dict) -> None:
    fields = {k: v for k, v in cfg.items() if k not in ALIASES}
    config = from_mapping(RunConfig, fields | {"dataset": cfg["data"]})
    check_merge(cfg)
    # Only into the experiment's own place: a folder that was named and is not there is a mistake.
    drawn = cfg["draw"] and not was_given("data")
    if not drawn:
        require_dataset(config.dataset)

    print(f"{run_name(cfg)}: starting Ray ...", file=sys.stderr, flush=True)  # importing it takes seconds
    from pm.ray_env import ray_init
    from pm.train.run.launch import launch
    from pm.train.run.storage import folders

    ray_init(log_to_driver=config.workers.logs)
    if drawn and not Path(cfg["data"], "dataset.json").exists():
        draw(cfg)
    run_dir, storage = folders(cfg["storage_path"], run_name(cfg))
    launch(config, run_dir, cfg, storage)


def draw(cfg: dict) -> None:
    """Make a small dataset of drawn people for this run's base."""
    from pm.data.config import PreprocessConfig
    from pm.data.run.build import build
    from serving.compose import composed

    data, base = cfg["data"], cfg["base"]
    values = {"dataset.identities": cfg["draw"], "dataset.photos_per_identity": 4, "dataset.root": f"{data}-photos"}
    values |= {"output": data, "base.path": base["path"], "base.vision_path": base["vision_path"]}
    typed = [as_typed(f"{key}={value}", PreprocessConfig, {}) for key, value in values.items()]
    preprocess = composed("preprocess", ["dataset=toon", *typed])
    del preprocess["forget"]  # of the command alone
    print(build(from_mapping(PreprocessConfig, preprocess)).text(data), flush=True)


if __name__ == "__main__":
    main()
