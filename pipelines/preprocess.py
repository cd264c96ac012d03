"""Photos → dataset: faces, masks, captions and features of every photo, and why the others were left out.

photomaker preprocess dataset=folder dataset.root=photos output=data/mine
"""

from pipelines._entry import entry
from pm.config import from_mapping
from pm.data.config import PreprocessConfig


@entry("preprocess", PreprocessConfig, extra={"forget": str})
def main(cfg: dict) -> None:
    key = cfg.pop("forget")
    if key is not None:  # as `photomaker forget`, kept for those who know it here
        from pm.data.dataset.forget import forget

        print(forget(cfg["output"], key).text(cfg["output"]))
        return
    config = from_mapping(PreprocessConfig, cfg)

    from pm.data.run.build import build

    print(build(config).text(config.output))


if __name__ == "__main__":
    main()
