"""Configurations of `generate`, as its command line composes them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pm.config import from_mapping
from pm.sample.config import GenerateConfig
from serving.compose import composed


def settings(base: Path, adapter: Path, folder: Path, *overrides: str) -> dict[str, Any]:
    """Plain values of all settings, on a tiny base with two noisy photos in `folder`."""
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return composed(
        "generate",
        [
            f"base.path={base}",
            f"base.vision_path={base / 'image_encoder'}",
            f"adapter={adapter}",
            "prompt='a man img in a red shirt'",
            f"id_images=['{folder}/?.png']",
            f"output={folder / 'out'}",
            "sampler.steps=2",
            "sampler.batch_size=2",
            "images=3",
            "seed=5",
            "protect=none",  # a signature holds the time: no two files are the same bytes
            *overrides,
        ],
    )


def config(*args: Any) -> GenerateConfig:
    """The same, checked."""
    return from_mapping(GenerateConfig, settings(*args))
