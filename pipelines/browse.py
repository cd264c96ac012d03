"""Look at a dataset: one HTML page with its counts, people, masks, captions and rejects.

photomaker browse dataset=data/mine
"""

from pathlib import Path

from pipelines._entry import entry
from pm.config import from_mapping
from pm.data.config import BrowseConfig


# `dataset` is also preprocess's config group, so Hydra would take the folder for a choice in it.
@entry("browse", BrowseConfig, extra={"data": str}, renamed={"dataset": "data"})
def main(cfg: dict) -> None:
    config = from_mapping(BrowseConfig, {"dataset": cfg.pop("data"), **cfg})

    from pm.data.dataset.browse import write_page

    print(f"page: {Path(write_page(config)).absolute()}")


if __name__ == "__main__":
    main()
