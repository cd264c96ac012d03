"""Shared by all tests: offline, few threads, one Ray and one tiny base per session."""

import functools
import importlib.metadata
import os

os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="offline", TOKENIZERS_PARALLELISM="false", WANDB_SILENT="true")
# diffusers, peft and transformers each list the files of all installed packages when imported; once is enough.
importlib.metadata.packages_distributions = functools.cache(importlib.metadata.packages_distributions)

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402

from pm.startup import collect_rarely  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
collect_rarely()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Files run side by side. Not at import: the process that only hands out the files needs no torch."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Path:
    """A base with random weights in the standard layout: 32 px images, [4, 8, 8] latents."""
    from pm.toon.base import write_random_base

    return write_random_base(tmp_path_factory.mktemp("base") / "tiny", size="tiny", seed=0)


@pytest.fixture(scope="session")
def tiny_sd15(tmp_path_factory) -> Path:
    """The same in the layout of Stable Diffusion 2.1 at 768 px: one text encoder, and it predicts the velocity."""
    from pm.toon.base import write_random_sd15

    return write_random_sd15(tmp_path_factory.mktemp("base") / "sd15", prediction="v_prediction")


@pytest.fixture(scope="session")
def tiny_dataset(tiny_base, tmp_path_factory) -> Path:
    """A dataset for the tiny base: 6 people with 4 photos each."""
    from support.training import write_dataset

    return write_dataset(tmp_path_factory.mktemp("data") / "tiny", tiny_base, people=6, photos=4)


@pytest.fixture(scope="session")
def face_dataset(tiny_base, tmp_path_factory) -> Path:
    """The same with face embeddings, as wide as those of the toon world's probe."""
    from support.training import write_dataset

    return write_dataset(tmp_path_factory.mktemp("data") / "faces", tiny_base, people=3, photos=4, face_width=34)


@pytest.fixture(scope="session")
def ray_session():
    """One Ray for the whole session."""
    import ray

    from pm.ray_env import ray_init

    ray_init(num_cpus=4)
    yield
    ray.shutdown()
