import pytest
from support.training import write_dataset


@pytest.fixture(scope="session")
def tiny_dataset(tiny_base, tmp_path_factory):
    """A dataset for the tiny base: 6 people with 4 photos each."""
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny", tiny_base, people=6, photos=4)
