"""Portraits: `python pipelines/generate.py id_images=[a.png,b.png] prompt="a man img wearing a red hoodie"`."""

from _entry import entry

from pm.config import from_mapping
from pm.sample.config import GenerateConfig


@entry("generate", sentences=("prompt", "sampler.negative_prompt"))
def main(cfg: dict) -> None:
    if isinstance(cfg["id_images"], str):
        cfg["id_images"] = [cfg["id_images"]]
    config = from_mapping(GenerateConfig, cfg)

    from pm.sample.run import generate

    folder = generate(config)
    print(f"{config.images} images and grid.png in {folder}")


if __name__ == "__main__":
    main()
