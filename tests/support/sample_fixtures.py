"""Shared by the tests of sampling."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.sampling import write_adapter


@pytest.fixture(scope="session")
def adapter_files(tiny_base, tmp_path_factory) -> dict[str, Path]:
    """Two different people-makers for the tiny base: "one" inserts, "two" repeats."""
    folder = tmp_path_factory.mktemp("adapters")
    return {
        "one": write_adapter(tiny_base, folder / "one.safetensors", merge="insert", seed=1),
        "two": write_adapter(tiny_base, folder / "two.safetensors", merge="repeat", seed=2),
    }


@pytest.fixture(scope="session")
def photos() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 32 + 4 * i, 3), dtype=np.uint8)) for i in range(4)]
