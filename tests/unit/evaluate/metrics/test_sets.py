"""FID and its stand-in: Fréchet distances of pictures to photos, from what was measured trial by trial."""

import numpy as np
import pytest
import torch
from support.measuring import blurred, made_up, pattern, trial_of

from pm.errors import CheckpointError
from pm.evaluate.frechet import frechet_distance
from pm.evaluate.metrics.base import Pictures
from pm.evaluate.metrics.fid import Fid, SetDistance
from pm.evaluate.metrics.frechet_effnet import FrechetEffnet
from pm.evaluate.models.efficientnet import load_efficientnet
from pm.evaluate.models.inception import Inception, load_inception


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "made-up.pth"
    torch.save(made_up(Inception()).state_dict() | {"fc.weight": torch.zeros(1008, 2048)}, path)
    return str(path)


def test_inception_agrees_with_torch_fidelity(inception):
    """torch-fidelity 0.4.0 gave these for the same made-up weights and picture."""
    features, model = load_inception(inception, "cpu")
    (row,) = features([pattern(3, 299, 299)])
    wanted = [5.74555, 0.0, 1.05265, 0.55617, 6.78636, 0.00561, 10.31192, 1.07632]
    assert row[::256] == pytest.approx(np.array(wanted), abs=1e-4)
    assert float(np.linalg.norm(row)) == pytest.approx(208.72113037109375, rel=1e-5)
    assert Fid("fid", inception).load("cpu").model == model and model.name == "made-up.pth"


def sets(change=lambda image: image):
    """Two people × two prompts; pictures are their photos, changed."""
    batch = {}
    for p, person in enumerate(("anna", "ben")):
        photos = [pattern(10 * p + i) for i in range(4)]
        trials = [trial_of(photos[:2], photos[2:], person=person, template=f"{{person}} {k}") for k in range(2)]
        made = [change(photo) for photo in photos]
        batch[person] = [Pictures(trials[0], made[:2]), Pictures(trials[1], made[2:])]
    return batch


def distance_of(metric, batch):
    return metric.summary({person: metric.measure(pictures) for person, pictures in batch.items()})


def test_the_photos_themselves_are_at_zero_and_blurred_ones_are_farther():
    metric = FrechetEffnet("frechet_effnet").load("cpu")
    same, little, much = (distance_of(metric, sets(c)) for c in (lambda i: i, lambda i: blurred(i, 1), _smear))
    assert same.mean == pytest.approx(0, abs=1e-3) and same.mean < little.mean < much.mean
    assert much.low <= much.mean <= much.high


def _smear(image):
    return blurred(image, 8)


def test_it_is_the_distance_of_all_pictures_to_each_photo_once():
    metric, batch = FrechetEffnet("frechet_effnet").load("cpu"), sets(_smear)
    features, _ = load_efficientnet("cpu")
    made = [image for pictures in batch.values() for p in pictures for image in p.images]
    real = [pattern(10 * p + i) for p in range(2) for i in range(4)]
    wanted = frechet_distance(features(made), features(real))
    assert distance_of(metric, batch).mean == pytest.approx(wanted, rel=1e-5)


def test_measured_apart_or_together_is_the_same():
    metric, batch = FrechetEffnet("frechet_effnet").load("cpu"), sets(_smear)
    together = metric.measure([p for pictures in batch.values() for p in pictures])
    load_efficientnet.cache_clear()
    fresh = FrechetEffnet("frechet_effnet").load("cpu")
    apart = [fresh.measure([p])[0] for pictures in batch.values() for p in pictures]
    for one, other in zip(together, apart, strict=True):
        assert one.features.dtype == np.float32 and one.values == []
        assert one.features == pytest.approx(other.features, abs=1e-4)


def test_nothing_made_or_nobody_to_compare_with_has_no_distance():
    metric = FrechetEffnet("frechet_effnet").load("cpu")
    assert distance_of(metric, {"anna": [Pictures(trial_of([]), [pattern(1), pattern(2)])]}) is None
    assert distance_of(metric, {"anna": [Pictures(trial_of([pattern(1), pattern(2)]), [])]}) is None
    assert metric.summary({}) is None and isinstance(metric, SetDistance)


def test_inceptions_weights_have_to_be_given():
    with pytest.raises(
        CheckpointError, match=r"path=pt_inception-2015-12-05-6726825d.pth is not there; give .*mseitzer/pytorch-fid"
    ):
        Fid("fid", "pt_inception-2015-12-05-6726825d.pth").load("cpu")
