import numpy as np
import pytest
import torch
from support.photos import photo_of
from support.tiny_models import write_mask2former

from pm.data.stages.masks import mask_photos
from pm.errors import CheckpointError, ConfigError
from pm.photo.masks.mask2former import Mask2Former, Mask2FormerMasker
from pm.photo.pixels import decode_png
from pm.photo.types import Crop, PhotoView

LABELS = {0: "tree", 1: "person", 2: "person-like statue"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_mask2former(tmp_path_factory.mktemp("m2f") / "model", LABELS))


@pytest.fixture(scope="module")
def crops():
    rng = np.random.default_rng(0)
    return [np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8) for _ in range(4)]


def _crop(pixels):
    return Crop(PhotoView.of(pixels), (0, 0, 64, 64), (0.0, 0.0, 64.0, 64.0), pixels)


def segments(model, crop):
    """What the library says of one crop: a segment number for each pixel, and each segment's class."""
    from transformers import AutoImageProcessor, Mask2FormerForUniversalSegmentation

    processor = AutoImageProcessor.from_pretrained(model)
    network = Mask2FormerForUniversalSegmentation.from_pretrained(model).eval()
    with torch.no_grad():
        outputs = network(**processor(images=crop, return_tensors="pt"))
    found = processor.post_process_panoptic_segmentation(
        outputs, threshold=0.0, label_ids_to_fuse=set(), target_sizes=[crop.shape[:2]]
    )[0]
    return found["segmentation"].numpy(), {s["id"]: LABELS[s["label_id"]] for s in found["segments_info"]}


def test_candidates_are_the_segments_of_the_class_person(model, crops):
    masks = Mask2FormerMasker(model, "person", 0.0, batch_size=2).many([_crop(crop) for crop in crops])
    seen = 0
    for crop, found in zip(crops, masks, strict=True):
        segmentation, names = segments(model, crop)
        people = [np.where(segmentation == i, 255, 0) for i, name in names.items() if name == "person"]
        assert len(found) == len(people)
        seen += len(people)
        for mask, person in zip(found, people, strict=True):
            assert mask.dtype == np.uint8 and mask.shape == (64, 64)
            # A batch rounds differently: a pixel on a border may fall on the other side.
            assert (mask != person).mean() < 0.01
    assert seen > 2


def test_it_is_a_choice_of_the_stage_and_rejects_where_it_sees_nobody(model, crops):
    photos = [photo_of(crop, (0.0, 0.0, 64.0, 64.0)) for crop in crops[:1]]
    found = segments(model, crops[0])[1].values()
    for label in ("person", "tree"):
        choice = Mask2Former("mask2former", 0.01, 1.0, model, label, threshold=0.0)
        done = mask_photos(photos, "unused", choice, choice.build(), resolution=32)[0]
        if label in found:
            assert np.asarray(decode_png(done.mask, "L")).shape == (32, 32)
        else:
            assert done.reject.reason == "no_mask"
    sure = Mask2Former("mask2former", 0.01, 1.0, model, "person", threshold=0.999)
    assert mask_photos(photos, "unused", sure, sure.build(), resolution=32)[0].reject.reason == "no_mask"


def test_a_model_that_is_missing_or_knows_no_people_is_named(model, tmp_path):
    with pytest.raises(ConfigError, match=r"'human' is not a class of .*person, person-like statue, tree"):
        Mask2FormerMasker(model, "human", 0.5)
    with pytest.raises(CheckpointError, match="nowhere"):
        Mask2FormerMasker(str(tmp_path / "nowhere"), "person", 0.5)
