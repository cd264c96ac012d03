"""LPIPS, its stand-in, and the diversity of faces that is made of them."""

import dataclasses

import numpy as np
import pytest
import torch
from support.faces import astronaut
from support.measuring import blurred, made_up, pattern, some_batch, trial_of, values_of

from pm.errors import CheckpointError
from pm.evaluate.metrics.base import Pictures
from pm.evaluate.metrics.face_diversity import FaceDiversity
from pm.evaluate.metrics.lpips import Lpips
from pm.evaluate.metrics.squeezenet_distance import SqueezenetDistance
from pm.evaluate.metrics.squeezenet_face_diversity import SqueezenetFaceDiversity
from pm.evaluate.metrics.toon_face_diversity import ToonFaceDiversity
from pm.evaluate.models.backbones import Backbone
from pm.photo.faces.portrait import Portrait
from pm.photo.faces.yunet import YuNet

STAND_IN = SqueezenetDistance("squeezenet_distance", 96, "references")
PORTRAIT = Portrait("portrait", 8, 0.2, 0.1, 0.8, 0.7)
YUNET = YuNet("yunet", 20, 640, 0.8)


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """Files with made-up weights, as torchvision names them."""
    folder = tmp_path_factory.mktemp("backbones")
    for net in ("alex", "squeeze", "vgg"):
        torch.save(made_up(Backbone(net)).state_dict(), folder / f"{net}.pth")
    return folder


@pytest.mark.parametrize(
    "net, wanted", [("alex", 0.17518943548202515), ("vgg", 0.16016064584255219), ("squeeze", 0.16103637218475342)]
)
def test_lpips_agrees_with_its_authors_code(net, wanted, backbones):
    """lpips 0.1.4 with the same made-up network and its own weights of channels gave these."""
    metric = Lpips("lpips", net, str(backbones / f"{net}.pth"), 96, "references").load("cpu")
    some, other = pattern(1, 96, 96), pattern(2, 96, 96)
    assert values_of(metric, [some], [other]) == [pytest.approx(wanted, abs=1e-4)]
    assert values_of(metric, [some], [some]) == [0]
    assert metric.model.name == f"LPIPS 0.1 {net} ({net}.pth)" and len(metric.model.fingerprint) == 16


def test_the_stand_in_is_what_its_authors_call_the_baseline():
    """lpips 0.1.4 with lpips=False and the same SqueezeNet gave 14 times this: 2 for each of 7 layers."""
    value = values_of(STAND_IN.load("cpu"), [pattern(1, 96, 96)], [pattern(2, 96, 96)])
    assert value == [pytest.approx(0.3376225403376988, abs=1e-4)]


def test_a_blurred_copy_is_farther_away_than_a_sharp_one():
    metric, photo = STAND_IN.load("cpu"), astronaut(96)
    same, little, much, other = values_of(metric, [photo], [photo, blurred(photo, 1), blurred(photo, 4), pattern(1)])
    assert same == pytest.approx(0, abs=1e-9) and same < little < much < other < 1


def test_a_batch_gives_what_each_alone_gives():
    metric, batch = STAND_IN.load("cpu"), some_batch()
    for whole, pictures in zip(metric.measure(batch), batch, strict=True):
        alone = [metric.measure([dataclasses.replace(pictures, images=[i])])[0].values[0] for i in pictures.images]
        assert whole.values == pytest.approx(alone, abs=1e-6)


def test_face_diversity_is_the_mean_of_all_pairs_of_faces():
    images = [pattern(i, 100, 100) for i in (1, 2, 3)]
    metric = SqueezenetFaceDiversity("squeezenet_face_diversity", PORTRAIT, 64).load("cpu")
    (whole,) = values_of(metric, [], images)
    pairs = [values_of(metric, [], [images[i], images[j]])[0] for i, j in ((0, 1), (0, 2), (1, 2))]
    assert whole == pytest.approx(np.mean(pairs), abs=1e-6)
    assert values_of(metric, [], [images[0]] * 3) == [pytest.approx(0, abs=1e-6)]
    # What is around the face does not count: of 100 x 100 px, the box's square is 60 x 60 in the middle.
    around = images[0].copy()
    around[:8] = around[-20:] = 255
    assert values_of(metric, [], [images[0], around]) == [pytest.approx(0, abs=1e-6)]


def test_pictures_without_a_face_are_left_out():
    metric = SqueezenetFaceDiversity("squeezenet_face_diversity", YUNET, 64).load("cpu")
    face, none = astronaut(256), pattern(4, 200, 200)
    assert values_of(metric, [], [none, none]) == [] and values_of(metric, [], [face, none]) == []
    assert values_of(metric, [], [face, none, face]) == [pytest.approx(0, abs=1e-6)]
    (diverse,) = values_of(metric, [], [face, none, blurred(face, 2)])
    assert diverse > 0.05
    assert metric.summary({"anna": metric.measure([Pictures(trial_of([]), [none, none])])}) is None


def test_face_diversity_by_lpips(backbones):
    choice = FaceDiversity("face_diversity", PORTRAIT, "squeeze", str(backbones / "squeeze.pth"), 64)
    assert 0 < values_of(choice.load("cpu"), [], [pattern(1), pattern(2)])[0] < 1


def test_stand_ins_say_which_models_they_are():
    drawn = ToonFaceDiversity("toon_face_diversity", PORTRAIT, 64)
    assert drawn.head == "toon Face Div." and drawn.load("cpu").model.name == "portrait + SqueezeNet 1.1"
    assert STAND_IN.load("cpu").model.name == "SqueezeNet 1.1" and not STAND_IN.higher_is_better


def test_weights_of_another_network_and_missing_ones_are_named(backbones, tmp_path):
    wrong = Lpips("lpips", "vgg", str(backbones / "alex.pth"), 96, "references")
    with pytest.raises(CheckpointError, match=r"path=.*alex.pth.* another network's file"):
        wrong.load("cpu")
    for path, message in {
        "nobody/no-such-vgg": "neither here nor can be fetched from the Hub",
        str(tmp_path / "gone.pth"): "is not there; give the file",
        str(tmp_path): "holds none of model.safetensors",
    }.items():
        with pytest.raises(CheckpointError, match=message):
            dataclasses.replace(wrong, path=path).load("cpu")


def test_a_pickle_that_could_run_code_is_never_read(tmp_path):
    import os

    (tmp_path / "ran").touch()
    torch.save({"features.0.weight": _Evil(str(tmp_path / "ran"))}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="no pickle of plain tensors"):
        Lpips("lpips", "alex", str(tmp_path / "evil.pth"), 96, "references").load("cpu")
    assert os.path.exists(tmp_path / "ran")


class _Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.unlink, (self.path,)
