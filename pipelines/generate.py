"""Photos of a person and a prompt → portraits, and a grid of them with the photos.

photomaker generate id_images=[a.png,b.png] prompt="a man img wearing a red hoodie, smiling"
"""

from pathlib import Path

from pipelines._entry import entry
from pm.config import from_mapping
from pm.sample.config import GenerateConfig


@entry("generate", GenerateConfig)
def main(cfg: dict) -> None:
    config = from_mapping(GenerateConfig, cfg)

    if config.manifest is not None:
        from pm.sample.many import generate_all

        made, asked = generate_all(config)
        return print(f"{asked} pictures, {made} of them new, in {Path(config.output).absolute()}")

    from pm.sample.run import generate

    folder = generate(config)
    print(f"{config.images} image{'s' * (config.images != 1)} and grid.png in {Path(folder).absolute()}")


if __name__ == "__main__":
    main()
