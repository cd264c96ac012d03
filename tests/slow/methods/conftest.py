"""One pipeline on the tiny base for all tests of methods."""

import pytest

from pm.sample.pipeline import PhotoMakerPipeline


@pytest.fixture(scope="session")
def pipeline(tiny_base) -> PhotoMakerPipeline:
    return PhotoMakerPipeline.from_pretrained(tiny_base)


@pytest.fixture(scope="session")
def pipeline_15(tiny_sd15) -> PhotoMakerPipeline:
    """Of another family: one text encoder, no pooled text, no time ids, velocities."""
    return PhotoMakerPipeline.from_pretrained(tiny_sd15)
