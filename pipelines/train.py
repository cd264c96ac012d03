"""Dataset → adapter: `python pipelines/train.py dataset=<folder> name=<run>`; the same command again goes on."""

import copy
import re
import sys

from _entry import entry

from pm.config import from_mapping
from pm.train.config import RunConfig


@entry("train")
def main(cfg: dict) -> None:
    from hydra.core.hydra_config import HydraConfig

    fields = copy.deepcopy(cfg)
    fields["dataset"] = fields["dataset"]["path"]
    for alias in ("compose", "merge"):  # short names of the command line for what is in `adapter`
        fields.pop(alias)
    config = from_mapping(RunConfig, fields)

    from pm.ray_env import ray_init
    from pm.train.launch import launch

    ray_init(log_to_driver=config.workers.logs)
    launch(config, HydraConfig.get().runtime.output_dir, cfg)


if __name__ == "__main__":
    # conf/dataset/ holds the sources of preprocess.py, and Hydra would take dataset=<folder> for a choice among them.
    sys.argv[1:] = [re.sub(r"^dataset=", "dataset.path=", argument) for argument in sys.argv[1:]]
    main()
