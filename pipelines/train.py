"""Dataset → adapter: `python pipelines/train.py data=<folder> name=<run>`; the same command again goes on."""

from pathlib import Path

from _entry import entry
from _sweep import run_cell, run_name

from pm.config import from_mapping
from pm.train.config import RunConfig

# Keys of the command line alone: short names for what is in `adapter` and `dataset`, and where things are.
ALIASES = ("compose", "merge", "data", "draw", "wild", "storage_path")


@entry("train", run=run_cell)
def main(cfg: dict) -> None:
    fields = {k: v for k, v in cfg.items() if k not in ALIASES}
    config = from_mapping(RunConfig, fields | {"dataset": cfg["data"]})

    from pm.ray_env import ray_init
    from pm.train.run.launch import launch
    from pm.train.run.storage import folders

    ray_init(log_to_driver=config.workers.logs)
    if cfg["draw"] and not Path(cfg["data"], "dataset.json").exists():
        draw(cfg)
    run_dir, storage = folders(cfg["storage_path"], run_name(cfg))
    launch(config, run_dir, cfg, storage)


def draw(cfg: dict) -> None:
    """Make a small dataset of drawn people for this run's base."""
    from hydra import compose
    from omegaconf import OmegaConf

    from pm.data.config import PreprocessConfig
    from pm.data.run.graph import build

    data, base = cfg["data"], cfg["base"]
    values = {"dataset.identities": cfg["draw"], "dataset.photos_per_identity": 4, "dataset.root": f"{data}-photos"}
    values |= {"output": data, "base.path": base["path"], "base.vision_path": base["vision_path"]}
    composed = compose("preprocess", ["dataset=toon", *(f"{key}={value}" for key, value in values.items())])
    cfg = OmegaConf.to_container(composed, resolve=True)
    del cfg["forget"]  # of the command alone
    print(build(from_mapping(PreprocessConfig, cfg)).text(data), flush=True)


if __name__ == "__main__":
    main()
