"""Metrics of faces: whether there is one, whose it is, and what it copies."""

import dataclasses

import numpy as np
import pytest
from support.faces import astronaut, people
from support.measuring import blurred, pattern, trial_of, values_of

from pm.config import from_mapping
from pm.errors import CheckpointError, ConfigError
from pm.evaluate.faces import FaceEmbedder
from pm.evaluate.metrics.base import MetricChoice, Pictures
from pm.evaluate.metrics.copy_paste import CopyPaste
from pm.evaluate.metrics.expression_copy import ExpressionCopy
from pm.evaluate.metrics.face_similarity import FaceSimilarity
from pm.evaluate.metrics.faces_found import FacesFound
from pm.evaluate.metrics.pose_copy import PoseCopy
from pm.evaluate.metrics.toon_copy_paste import ToonCopyPaste
from pm.evaluate.metrics.toon_face_similarity import ToonFaceSimilarity
from pm.photo.embedders.dlib import Dlib
from pm.photo.embedders.none import NoEmbedder
from pm.photo.embedders.probe import Probe
from pm.photo.faces import dlib as dlib_faces
from pm.photo.faces.portrait import Portrait
from pm.photo.faces.yunet import YuNet
from pm.resources import resource
from pm.toon.attributes import Framing
from pm.toon.identities import identities, scene
from pm.toon.render import render_photo

YUNET, DLIB = YuNet("yunet", 20, 640, 0.8), Dlib("dlib", 0.03, 0.5)
SIMILARITY = FaceSimilarity("face_similarity", YUNET, DLIB, "references")
COPY = CopyPaste("copy_paste", YUNET, DLIB)
NONE = pattern(4, 200, 200)


def turned(image):
    return np.ascontiguousarray(image[:, ::-1])


def test_the_share_of_pictures_with_a_face():
    metric, face = FacesFound("faces_found", YUNET).load("cpu"), astronaut(256)
    grey = np.asarray(face.mean(-1).round(), np.uint8)
    assert values_of(metric, [], [face, NONE, grey, astronaut(200)]) == [1, 0, 1, 1]
    few = FacesFound("faces_found", dataclasses.replace(YUNET, min_size=200)).load("cpu")
    assert values_of(few, [], [face]) == [0]
    assert metric.model.name == "yunet" and metric.model == few.model


def test_the_same_face_is_one_and_a_picture_without_has_no_value():
    metric, face = SIMILARITY.load("cpu"), astronaut(256)
    same, worse = values_of(metric, [face], [face, NONE, blurred(turned(face), 2)])
    assert same == pytest.approx(1) and worse < same
    assert values_of(metric, [face], [NONE]) == [] and values_of(metric, [NONE], [face]) == []
    nothing = metric.measure([Pictures(trial_of([face]), [NONE, NONE])])
    assert metric.summary({"anna": nothing}) is None  # missing, not zero
    assert metric.model.name == "yunet + dlib"


def test_a_batch_of_faces_gives_what_each_alone_gives():
    metric = SIMILARITY.load("cpu")
    batch = [Pictures(trial_of([astronaut(256)]), [astronaut(300), NONE]), Pictures(trial_of([NONE]), [astronaut(256)])]
    alone = FaceEmbedder(YUNET, DLIB, "cpu")([astronaut(256), astronaut(300)])
    one, none = metric.measure(batch)
    assert one.values == [pytest.approx(float(alone[0] @ alone[1]))] and none.values == []


@pytest.mark.skipif(not people(), reason="the photographs are not on this machine")
def test_other_photos_of_a_person_lie_nearer_than_those_of_another():
    metric, photos = SIMILARITY.load("cpu"), people()
    groups = {}
    for name, image in photos.items():
        groups.setdefault(name.split("/")[0], []).append(image)
    (one, others), (two, strangers) = (group for group in ((k, v) for k, v in groups.items()))
    same = values_of(metric, others[:2], others[2:]) + values_of(metric, strangers[:2], strangers[2:])
    different = values_of(metric, others[:2], strangers) + values_of(metric, strangers[:2], others)
    assert one != two and min(same) > max(different) + 0.05


@pytest.mark.skipif(not people(), reason="the photographs are not on this machine")
def test_a_copy_of_a_reference_pastes_and_another_photo_does_not():
    photos = [image for name, image in people().items() if name.startswith("newton")]
    for choice in (COPY, PoseCopy("pose_copy", YUNET), ExpressionCopy("expression_copy", YUNET)):
        copy, other = values_of(choice.load("cpu"), [photos[0]], [photos[0], photos[1]], held_out=[photos[1]])
        assert copy == pytest.approx(1, abs=1e-6) and other == pytest.approx(-1, abs=1e-6), choice.name
        value = values_of(choice.load("cpu"), photos[:1], photos[3:], held_out=photos[1:3])
        assert len(value) == 1 and -1 <= value[0] <= 1


def test_copy_paste_needs_other_photos_of_the_person():
    face = astronaut(256)
    for choice in (COPY, PoseCopy("pose_copy", YUNET)):
        metric = choice.load("cpu")
        assert values_of(metric, [face], [face]) == []
        assert values_of(metric, [face], [face], held_out=[NONE]) == []
        assert values_of(metric, [face], [face], held_out=[face]) == []  # they do not differ


def test_a_mirrored_reference_turns_the_head_the_other_way():
    face = astronaut(256)
    metric = PoseCopy("pose_copy", YUNET).load("cpu")
    assert values_of(metric, [face], [face, turned(face)], held_out=[turned(face)]) == [
        pytest.approx(1),
        pytest.approx(-1),
    ]


def test_drawn_people_are_told_apart_where_portraits_have_the_face():
    import random

    rng, portrait = random.Random(0), Portrait("portrait", 8, 0.26, 0.15, 0.74, 0.71)
    probe = Probe("probe", 0.1, 1.0, str(resource("assets/toon/probe.safetensors")))
    metric = ToonFaceSimilarity("toon_face_similarity", portrait, probe, "references").load("cpu")
    one, two = identities(2, 0, "eval")

    def draw(person):
        return render_photo(person, scene(rng), Framing(1.15, 0.0, 0.0, 0.0), 64).image

    same, other = values_of(metric, [draw(one), draw(one)], [draw(one), draw(two)])
    assert same > other + 0.2 and metric.model.name == "portrait + probe"


def test_a_drawing_that_copies_a_reference_is_told_from_one_that_does_not():
    import random

    rng, person = random.Random(1), identities(1, 0, "eval")[0]

    def draw():
        return render_photo(person, scene(rng), Framing(1.15, 0.0, 0.0, 0.0), 64).image

    shown, other, new = draw(), draw(), [draw() for _ in range(12)]
    metric = ToonCopyPaste("toon_copy_paste", str(resource("assets/toon"))).load("cpu")
    copy, opposite, *independent = values_of(metric, [shown], [shown, other, *new], held_out=[other])
    assert copy == pytest.approx(1, abs=1e-3) and opposite == pytest.approx(-1, abs=1e-3)
    assert abs(np.mean(independent)) < 0.4 and np.ptp(independent) > 0
    assert values_of(metric, [shown], new) == [] and values_of(metric, [], new, held_out=[other]) == []


def test_what_does_not_fit_together_is_refused():
    hog = dlib_faces.Dlib("dlib", 20, 1, 1280)
    with pytest.raises(ConfigError, match="pose_copy needs landmarks .* face=dlib does not find"):
        PoseCopy("pose_copy", hog)
    with pytest.raises(CheckpointError, match="embedder=none compares no faces"):
        FaceSimilarity("face_similarity", YUNET, NoEmbedder("none"), "references").load("cpu")
    with pytest.raises(ConfigError, match="against"):
        from_mapping(MetricChoice, {"name": "effnet_similarity", "against": "everybody"})


def test_a_missing_package_leaves_the_metric_out(monkeypatch):
    def missing():
        raise ConfigError("dlib is not installed; run pip install it")

    monkeypatch.setattr("pm.photo.embedders.dlib.import_dlib", missing)
    with pytest.raises(CheckpointError, match="dlib is not installed"):
        FaceEmbedder(YUNET, DLIB, "cpu")
