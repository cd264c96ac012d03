"""Dataset → adapter: `python pipelines/train.py data=<folder> name=<run>`; the same command again goes on."""

from _entry import entry

from pm.config import from_mapping
from pm.train.config import RunConfig


@entry("train")
def main(cfg: dict) -> None:
    from hydra.core.hydra_config import HydraConfig

    # `compose` and `merge` are the command line's short names for what is in `adapter`.
    fields = {k: v for k, v in cfg.items() if k not in ("compose", "merge", "data")}
    config = from_mapping(RunConfig, fields | {"dataset": cfg["data"]})

    from pm.ray_env import ray_init
    from pm.train.launch import launch

    ray_init(log_to_driver=config.workers.logs)
    launch(config, HydraConfig.get().runtime.output_dir, cfg)


if __name__ == "__main__":
    main()
