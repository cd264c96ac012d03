"""Photos of a person and a prompt → portraits, and a grid of them with the photos.

photomaker generate id_images=[a.png,b.png] prompt="a man img wearing a red hoodie, smiling"
"""

from pathlib import Path

from pipelines._entry import entry, given_settings
from pm.config import from_mapping
from pm.sample.config import GenerateConfig


@entry("generate", GenerateConfig)
def main(cfg: dict) -> None:
    repeat = None
    if cfg["like"] is not None:
        from pm.sample.like import repeat_of

        repeat = repeat_of(cfg["like"], cfg, [name for name in given_settings() if name != "like"])
    config = from_mapping(GenerateConfig, cfg) if repeat is None else repeat.config

    if config.manifest is not None:
        from pm.sample.many import generate_all

        made, asked = generate_all(config)
        return print(f"{asked} pictures, {made} of them new, in {Path(config.output).absolute()}")

    if config.x or config.y:
        from pm.sample.sheet import generate_sheet

        folder = generate_sheet(config)
        return print(f"a sheet and its pictures in {Path(folder).absolute()}")

    from pm.sample.run import generate

    folder = generate(config, repeat=repeat)
    print(f"{config.images} image{'s' * (config.images != 1)} and grid in {Path(folder).absolute()}")


if __name__ == "__main__":
    main()
