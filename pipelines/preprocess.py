"""Photos → dataset: `python pipelines/preprocess.py dataset=folder dataset.root=<photos> output=<folder>`.

`forget=<person or sha256>` removes a person or a photo from the dataset at `output` instead.
"""

from _entry import entry

from pm.config import from_mapping
from pm.data.config import PreprocessConfig


@entry("preprocess", sentences=("forget",))
def main(cfg: dict) -> None:
    key = cfg.pop("forget")
    if key is not None:
        from pm.data.dataset.forget import forget

        print(forget(cfg["output"], str(key)).text(cfg["output"]))
        return
    config = from_mapping(PreprocessConfig, cfg)

    from pm.data.run.graph import build

    print(build(config).text(config.output))


if __name__ == "__main__":
    main()
