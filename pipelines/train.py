"""Dataset → adapter: `python pipelines/train.py data=<folder> name=<run>`; the same command again goes on."""

from _entry import entry
from _sweep import run_cell, run_name

from pm.config import from_mapping
from pm.train.config import RunConfig

# Keys of the command line alone: short names for what is in `adapter` and `dataset`, and where things are.
ALIASES = ("compose", "merge", "data", "wild", "storage_path")


@entry("train", run=run_cell)
def main(cfg: dict) -> None:
    fields = {k: v for k, v in cfg.items() if k not in ALIASES}
    config = from_mapping(RunConfig, fields | {"dataset": cfg["data"]})

    from pm.ray_env import ray_init
    from pm.train.launch import launch

    ray_init(log_to_driver=config.workers.logs)
    launch(config, f"{cfg['storage_path']}/{run_name(cfg)}", cfg)


if __name__ == "__main__":
    main()
