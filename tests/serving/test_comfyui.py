"""The nodes for ComfyUI against the running server: the portraits that its API gives."""

import base64
import io

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from support.api import PROMPT, photo
from support.comfyui import load_nodes, run_node


@pytest.fixture(scope="module")
def nodes():
    return load_nodes()


def test_portraits_of_the_server(nodes, server):
    with Image.open(io.BytesIO(photo())) as image:
        batch = torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255)[None]
    (source,) = run_node(nodes, "PhotoMakerRayServer", url=f"{server.url}/v1/")
    (made,) = run_node(nodes, "PhotoMakerRayGenerate", source=source, images=batch, prompt=PROMPT, seed=3, count=2)
    assert made.shape == (2, 32, 32, 3) and made.dtype == torch.float32
    form = {"prompt": PROMPT, "seed": "3", "n": "2", "guidance_scale": "5.0"}
    files = [("image[]", ("a.png", photo(), "image/png"))]
    answer = httpx.post(f"{server.url}/v1/images/edits", data=form, files=files, timeout=120).json()
    for one, other in zip(made, answer["data"], strict=True):
        with Image.open(io.BytesIO(base64.b64decode(other["b64_json"]))) as image:
            assert np.array_equal((one * 255).round().byte().numpy(), np.asarray(image))


def test_the_servers_words_reach_the_user(nodes, server):
    (source,) = run_node(nodes, "PhotoMakerRayServer", url=server.url, model="nobody")
    with pytest.raises(RuntimeError, match="the PhotoMaker server refused it: model 'nobody' is not here; use a"):
        run_node(nodes, "PhotoMakerRayGenerate", source=source, images=torch.rand(1, 40, 40, 3), prompt=PROMPT)
