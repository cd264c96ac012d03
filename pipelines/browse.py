"""Look at a dataset: `python pipelines/browse.py dataset=data/mine` writes data/mine/browse.html."""

import sys

from _entry import entry

from pm.config import from_mapping
from pm.data.config import BrowseConfig


@entry("browse")
def main(cfg: dict) -> None:
    config = from_mapping(BrowseConfig, {"dataset": cfg.pop("data"), **cfg})

    from pm.data.dataset.browse import write_page

    print(f"page: {write_page(config)}")


if __name__ == "__main__":
    # `dataset` is also preprocess's config group, so Hydra would take the folder for a choice in it.
    sys.argv[1:] = [arg.replace("dataset=", "data=", 1) if arg.startswith("dataset=") else arg for arg in sys.argv[1:]]
    main()
