"""The aesthetic predictor: CLIP's vision tower with linear layers, as two generations of it are on the Hub."""

import pytest
import torch
from PIL import Image
from support.measuring import pattern, some_batch, values_of, write_aesthetic, write_clip

from pm.errors import CheckpointError
from pm.evaluate.metrics.aesthetic import Aesthetic


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    """folder for a head's layers by name."""
    clip = write_clip(tmp_path_factory.mktemp("aesthetic") / "clip")

    def write(name, **layers):
        return write_aesthetic(clip.parent / name, clip, **layers)

    return write


def by_hand(folder, layers, image):
    from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

    tower = CLIPVisionModelWithProjection.from_pretrained(folder).eval()
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(Image.fromarray(image), return_tensors="pt").pixel_values
    with torch.no_grad():
        embeds = tower(pixels).image_embeds
        return torch.nn.Sequential(*layers)(embeds / embeds.norm(dim=-1, keepdim=True)).item()


def test_one_layer_and_a_chain_of_layers(predictor):
    torch.manual_seed(1)
    one = torch.nn.Linear(16, 1)
    chain = {"layers.0": torch.nn.Linear(16, 8), "layers.2": torch.nn.Linear(8, 4), "layers.10": torch.nn.Linear(4, 1)}
    for name, layers in (("v1", {"predictor": one}), ("v2", chain)):
        folder = predictor(name, **layers)
        metric = Aesthetic("aesthetic", str(folder)).load("cpu")
        wanted = by_hand(folder, layers.values(), pattern(1))
        assert values_of(metric, [], [pattern(1)]) == [pytest.approx(wanted, abs=1e-5)]
        assert metric.model.name == name
        together = metric.measure(some_batch())
        assert [len(measured.values) for measured in together] == [3, 2]
        assert together[1].values[1] == pytest.approx(wanted, abs=1e-5)


def test_a_tower_without_a_head_is_refused(predictor):
    with pytest.raises(CheckpointError, match="has no head that gives one score"):
        Aesthetic("aesthetic", str(predictor("bare"))).load("cpu")
