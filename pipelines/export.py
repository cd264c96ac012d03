"""Checkpoint → adapter: ours, the authors' format, or the one of diffusers.

photomaker export checkpoint=runs/toon format=diffusers
"""

from pipelines._entry import entry
from pm.config import from_mapping
from pm.train.config import ExportConfig


@entry("export", ExportConfig)
def main(cfg: dict) -> None:
    config = from_mapping(ExportConfig, cfg)

    from pm.train.export import export

    print(f"{config.format} adapter: {export(config).absolute()}")


if __name__ == "__main__":
    main()
