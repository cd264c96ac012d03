"""Photos → dataset: `python pipelines/preprocess.py dataset=folder dataset.root=<photos> output=<folder>`."""

from _entry import entry

from pm.config import from_mapping
from pm.data.config import PreprocessConfig


@entry("preprocess")
def main(cfg: dict) -> None:
    config = from_mapping(PreprocessConfig, cfg)

    from pm.data.build import build

    print(build(config).text(config.output))


if __name__ == "__main__":
    main()
