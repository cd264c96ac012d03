import numpy as np
import pytest
from PIL import Image, ImageDraw
from support.photos import ingested, photo_of

from pm.data.stages.crop import crop_photos
from pm.data.stages.faces import find_faces
from pm.data.stages.masks import mask_photos
from pm.photo.crop import CropConfig, face_in_crop
from pm.photo.faces.sidecar import annotated_faces
from pm.photo.masks.select import face_overlap
from pm.photo.masks.sidecar import Sidecar
from pm.photo.pixels import decode_png

CHOICE = Sidecar(name="sidecar", min_overlap=0.3, max_share=1.0)


def blob(box, size=64):
    mask = Image.new("L", (size, size))
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    return np.asarray(mask)


GREY = np.full((64, 64, 3), 128, np.uint8)


def test_the_mask_that_overlaps_the_face_most_is_taken_at_the_datasets_size():
    candidates = [blob((0, 0, 63, 24)), blob((10, 18, 50, 63)), blob((0, 50, 10, 63))]
    done = mask_photos([photo_of(GREY)], "unused", CHOICE, lambda _: candidates, resolution=32)[0]
    mask = np.asarray(decode_png(done.mask, "L"))
    assert mask.shape == (32, 32)
    assert mask[20, 15] == 255 and mask[2, 2] == 0


@pytest.mark.parametrize(
    "candidates, reason",
    [([], "no_mask"), ([blob((0, 0, 5, 5)) * 0], "no_mask"), ([blob((0, 50, 63, 63))], "mask_misses_face")],
)
def test_photos_without_a_fitting_mask_are_rejected(candidates, reason):
    done = mask_photos([photo_of(GREY)], "unused", CHOICE, lambda _: candidates, resolution=32)[0]
    assert done.reject.reason == reason and done.reject.value == 0 and done.crop == b""


def test_overlap_is_the_covered_share_of_the_face():
    assert face_overlap(blob((20, 20, 29, 39)), (20, 20, 40, 40)) == pytest.approx(0.5)
    assert face_overlap(blob((0, 0, 63, 63)), (-5, 20, 70, 40)) == 1
    assert face_overlap(blob((0, 0, 63, 63)), (70, 70, 80, 80)) == 0


def test_sidecar_mask_is_cut_like_the_photo(root):
    photos = find_faces(ingested(root), root, annotated_faces, None, 8)
    config = CropConfig(face_share=0.25, working_side=512, max_upscale=4)
    cropped = crop_photos(photos, root, config, least_side=8)
    for photo in mask_photos(cropped, root, CHOICE, CHOICE.build(), resolution=64):
        crop = np.asarray(decode_png(photo.crop, "RGB").resize((64, 64))).astype(int)
        mask = np.asarray(decode_png(photo.mask, "L")) >= 128
        inks = {tuple(c) for c in crop[mask][:: max(1, mask.sum() // 50)].tolist()}
        assert face_overlap(mask * 255, face_in_crop(photo.face.box, photo.crop_box, 64)) > 0.7
        assert np.ptp(np.array(list(inks)), axis=0).max() < 120 or len(inks) < 12
    (root / "p0_man" / "0.json").write_text('{"mask_png": "broken", "faces": []}')
    (root / "p0_man" / "1.json").write_text('{"faces": []}')
    done = mask_photos(cropped, root, CHOICE, CHOICE.build(), resolution=64)
    assert [p.reject and p.reject.reason for p in done[:3]] == ["bad_mask", "no_mask", None]


def test_a_mask_that_keeps_more_than_its_choice_allows_is_rejected():
    def flood(crop):
        return [blob((0, 0, 63, 59))]

    strict, lenient = (Sidecar("sidecar", 0.3, share) for share in (0.9, 0.95))
    done = mask_photos([photo_of(GREY)], "unused", strict, flood, resolution=32)[0]
    assert (done.reject.reason, done.reject.value, done.reject.threshold) == ("mask_keeps_all", 60 / 64, 0.9)
    assert mask_photos([photo_of(GREY)], "unused", lenient, flood, resolution=32)[0].reject is None
