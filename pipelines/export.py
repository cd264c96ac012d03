"""Checkpoint → adapter: `python pipelines/export.py checkpoint=runs/toon format=native|published|diffusers`."""

from _entry import entry

from pm.config import from_mapping


@entry("export")
def main(cfg: dict) -> None:
    from pm.train.export import ExportConfig, export

    config = from_mapping(ExportConfig, cfg)
    print(f"{config.format} adapter: {export(config)}")


if __name__ == "__main__":
    main()
