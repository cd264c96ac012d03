"""Rows that start from pictures, beside others in one batch, on plain and on inpainting bases."""

import pytest
import torch
from support.pictures import half, picture, write_inpainting
from support.sampling import write_adapter

from pm.errors import CheckpointError
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import Request


@pytest.fixture(scope="module")
def adapter(tiny_base, tmp_path_factory):
    return write_adapter(tiny_base, tmp_path_factory.mktemp("adapter") / "one.safetensors", seed=1)


def request(photos=(), **changes) -> Request:
    own = {"prompt": "a man img in a red shirt"} if photos else {"prompt": "a man", "adapter": "base"}
    return Request(**{"id_images": tuple(photos), "steps": 5, "seed": 3} | own | changes)


def mixed(**everywhere) -> list[Request]:
    photos = [picture(10 + i) for i in range(3)]
    rows = [
        request(photos[:1]),
        request(photos[:2], image=picture(1), strength=0.7, merge_step=2),
        request(photos[:1], image=picture(2), mask_image=half(), seed=5, guidance=1.0),
        request(image=picture(1), mask_image=half(), strength=0.5, eta=everywhere.get("eta", 0.0)),
        request(image=picture(3, (48, 24)), seed=9, steps=9),
        request(photos[1:3], image=picture(1), width=48, height=24, mask_image=half()),
    ]
    return rows


def check_alone(pipeline: PhotoMakerPipeline, rows: list[Request]) -> None:
    for made, each in zip(pipeline.latents(rows), rows, strict=True):
        torch.testing.assert_close(made, pipeline.latents([each])[0], atol=5e-5, rtol=1e-3)


@pytest.mark.parametrize("schedule", ["ddim", "euler", "dpmpp_2m", "unipc", "euler_ancestral", "lcm"])
def test_rows_that_start_from_pictures_are_each_as_alone(tiny_base, adapter, schedule):
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base, adapter, schedule=schedule)
    check_alone(pipeline, mixed(eta=0.8 if schedule == "ddim" else 0.0))


def test_so_they_are_on_an_inpainting_base(tiny_base, tmp_path, adapter):
    folder = write_inpainting(tiny_base, tmp_path / "base")
    with pytest.raises(CheckpointError, match="trained on"):
        PhotoMakerPipeline.from_pretrained(folder, adapter)
    pipeline = PhotoMakerPipeline.from_pretrained(folder, adapter, check_base=False)
    check_alone(pipeline, mixed())
    with pytest.raises(CheckpointError, match="sampled, but not trained"):
        pipeline.plain_unet()
