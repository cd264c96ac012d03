from pathlib import Path

import pytest
from support.photos import write_dataset, write_photo


@pytest.fixture
def root(tmp_path) -> Path:
    """Three people with four photos each."""
    for identity in range(3):
        for photo in range(4):
            write_photo(tmp_path / "raw" / f"p{identity}_man" / f"{photo}.png", 10 * identity + photo)
    return tmp_path / "raw"


@pytest.fixture(scope="session")
def dataset_path(tmp_path_factory) -> Path:
    """Four people with 5, 1, 3 and 9 photos."""
    return write_dataset(tmp_path_factory.mktemp("set") / "data", {"a": 5, "b": 1, "c": 3, "d": 9}, rejected=2)
