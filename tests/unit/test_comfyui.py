"""The nodes for ComfyUI by its conventions, with the library as their source; the server is in `tests/serving`."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.comfyui import load_nodes, run_node
from support.sampling import worst, write_adapter

from pm.sample.pipeline import PhotoMakerPipeline


@pytest.fixture(scope="module")
def nodes():
    return load_nodes()


@pytest.fixture(scope="module")
def source(nodes, tiny_base, tmp_path_factory):
    adapter = write_adapter(tiny_base, tmp_path_factory.mktemp("comfyui") / "a.safetensors")
    found = run_node(nodes, "PhotoMakerRayLoadAdapter", base=str(tiny_base), adapter=str(adapter), device="cpu")
    return found[0], tiny_base, adapter


def photos(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 40, 36, 3, generator=torch.Generator().manual_seed(0))


def test_every_node_declares_what_comfyui_reads(nodes):
    assert nodes.NODE_CLASS_MAPPINGS.keys() == nodes.NODE_DISPLAY_NAME_MAPPINGS.keys()
    for node in nodes.NODE_CLASS_MAPPINGS.values():
        assert callable(getattr(node, node.FUNCTION)) and node.CATEGORY
        assert isinstance(node.RETURN_TYPES, tuple) and len(node.RETURN_NAMES) == len(node.RETURN_TYPES)
        for kind, *options in node.INPUT_TYPES()["required"].values():
            assert isinstance(kind, str | list) and all(isinstance(option, dict) for option in options)


def test_portraits_are_those_of_the_pipeline(nodes, source):
    loaded, base, adapter = source
    prompt = "a man img in a red shirt"
    (made,) = run_node(
        nodes, "PhotoMakerRayGenerate", source=loaded, images=photos(), prompt=prompt, steps=4, seed=7, count=2
    )
    assert made.dtype == torch.float32 and made.shape == (2, 32, 32, 3) and made.min() >= 0 and made.max() <= 1
    pipeline = PhotoMakerPipeline.from_pretrained(base, adapter)
    given = [Image.fromarray((photo * 255).round().byte().numpy()) for photo in photos()]
    first = round(pipeline.merge_fraction * 4) - 1
    expected = pipeline(
        prompt,
        input_id_images=given,
        num_inference_steps=4,
        seed=7,
        num_images_per_prompt=2,
        guidance_scale=5.0,
        start_merge_step=first,
    ).images
    for one, other in zip(made, expected, strict=True):
        assert worst(Image.fromarray((one * 255).round().byte().numpy()), other) == 0


def test_more_photos_weights_and_a_size(nodes, source):
    options = {"source": source[0], "prompt": "a man img in a red shirt", "steps": 2}
    one = run_node(nodes, "PhotoMakerRayGenerate", images=photos(1), **options)[0]
    two = run_node(nodes, "PhotoMakerRayGenerate", images=photos(1), images_2=photos(2)[1:, :30], **options)[0]
    weighed = run_node(
        nodes, "PhotoMakerRayGenerate", images=photos(1), images_2=photos(2)[1:, :30], id_weights="1, 0.5", **options
    )[0]
    assert not np.allclose(one, two) and not np.allclose(two, weighed)
    wide = run_node(nodes, "PhotoMakerRayGenerate", images=photos(1), width=64, height=32, **options)[0]
    assert wide.shape == (1, 32, 64, 3)


def test_what_cannot_be_done_is_one_line(nodes, source, tmp_path):
    options = {"images": photos(1), "prompt": "a man img", "steps": 2}
    with pytest.raises(RuntimeError, match="width=64 and height=0: give both"):
        run_node(nodes, "PhotoMakerRayGenerate", source=source[0], width=64, **options)
    for url, says in (("ftp://here", "is no address"), ("http://127.0.0.1:9", "cannot be reached .*is it running")):
        (server,) = run_node(nodes, "PhotoMakerRayServer", url=url)
        with pytest.raises(RuntimeError, match=says) as caught:
            run_node(nodes, "PhotoMakerRayGenerate", source=server, **options)
        assert "\n" not in str(caught.value)
