from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from support.photos import ingested, photo_of

from pm.data.config import CropConfig, MaskConfig
from pm.data.stages.crop import crop_photos
from pm.data.stages.faces import SidecarDetector, find_faces
from pm.data.stages.masks import face_in_crop, face_overlap, make_masker, mask_photos
from pm.photo.pixels import decode_png

FACES = Path(__file__).resolve().parents[4] / "shared" / "faces"
NONE = dict.fromkeys(("iterations", "side", "max_share", "path", "label", "threshold"))
SIDECAR = MaskConfig(name="sidecar", min_overlap=0.3, **NONE)
GRABCUT = MaskConfig(name="grabcut", min_overlap=0.3, **{**NONE, "iterations": 3, "side": 64, "max_share": 0.95})


def blob(box, size=64):
    mask = Image.new("L", (size, size))
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    return np.asarray(mask)


GREY = np.full((64, 64, 3), 128, np.uint8)


def test_the_mask_that_overlaps_the_face_most_is_taken_at_the_datasets_size():
    candidates = [blob((0, 0, 63, 24)), blob((10, 18, 50, 63)), blob((0, 50, 10, 63))]
    done = mask_photos([photo_of(GREY)], lambda *_: candidates, 0.3, resolution=32)[0]
    mask = np.asarray(decode_png(done.mask, "L"))
    assert mask.shape == (32, 32)
    assert mask[20, 15] == 255 and mask[2, 2] == 0


@pytest.mark.parametrize(
    "candidates, reason",
    [([], "no_mask"), ([blob((0, 0, 5, 5)) * 0], "no_mask"), ([blob((0, 50, 63, 63))], "mask_misses_face")],
)
def test_photos_without_a_fitting_mask_are_rejected(candidates, reason):
    done = mask_photos([photo_of(GREY)], lambda *_: candidates, 0.3, resolution=32)[0]
    assert done.reject.reason == reason and done.reject.value == 0 and done.crop == b""


def test_overlap_is_the_covered_share_of_the_face():
    assert face_overlap(blob((20, 20, 29, 39)), (20, 20, 40, 40)) == pytest.approx(0.5)
    assert face_overlap(blob((0, 0, 63, 63)), (-5, 20, 70, 40)) == 1
    assert face_overlap(blob((0, 0, 63, 63)), (70, 70, 80, 80)) == 0


def test_sidecar_mask_is_cut_like_the_photo(root):
    photos = find_faces(ingested(root), root, SidecarDetector(root), None, 8)
    config = CropConfig(face_share=0.25, working_side=512, max_upscale=4)
    cropped = crop_photos(photos, root, config, least_side=8)
    for photo in mask_photos(cropped, make_masker(SIDECAR, root), 0.3, resolution=64):
        crop = np.asarray(decode_png(photo.crop, "RGB").resize((64, 64))).astype(int)
        mask = np.asarray(decode_png(photo.mask, "L")) >= 128
        inks = {tuple(c) for c in crop[mask][:: max(1, mask.sum() // 50)].tolist()}
        assert face_overlap(mask * 255, face_in_crop(photo, 64)) > 0.7
        assert np.ptp(np.array(list(inks)), axis=0).max() < 120 or len(inks) < 12
    (root / "p0_man" / "0.json").write_text('{"mask_png": "broken", "faces": []}')
    (root / "p0_man" / "1.json").write_text('{"faces": []}')
    done = mask_photos(cropped, make_masker(SIDECAR, root), 0.3, resolution=64)
    assert [p.reject and p.reject.reason for p in done[:3]] == ["bad_mask", "no_mask", None]


def test_grabcut_finds_the_person_again_every_time():
    pytest.importorskip("cv2")
    truth = Image.new("L", (96, 96))
    draw = ImageDraw.Draw(truth)
    draw.ellipse((34, 20, 62, 56), fill=255)
    draw.rectangle((24, 56, 72, 95), fill=255)
    truth = np.asarray(truth)
    rng = np.random.default_rng(0)
    noise = rng.integers(-12, 12, (96, 96, 3))
    crop = np.where(truth[..., None] > 0, (200, 150, 120), (40, 80, 140)) + noise
    photo = replace(photo_of(crop.clip(0, 255).astype(np.uint8), (36.0, 26.0, 60.0, 54.0)), height=96, width=96)
    masker = make_masker(GRABCUT, "unused")
    first, second = (mask_photos([photo], masker, 0.3, resolution=96)[0].mask for _ in range(2))
    mask = np.asarray(decode_png(first, "L")) >= 128
    assert first == second
    assert (mask & (truth > 0)).sum() / (mask | (truth > 0)).sum() > 0.9


def test_grabcut_on_one_colour_does_not_fail():
    pytest.importorskip("cv2")
    done = mask_photos([photo_of(GREY)], make_masker(GRABCUT, "unused"), 0.3, resolution=32)[0]
    assert done.reject is None or done.reject.reason in ("no_mask", "mask_misses_face")


@pytest.mark.parametrize("seed", range(6))
def test_grabcut_never_leaves_the_outline_around_the_face(seed):
    cv2 = pytest.importorskip("cv2")
    from pm.photo.masks.grabcut import GrabCutMasker, grabcut_seed

    rng = np.random.default_rng(seed)
    # Blobs of few colours: the person's are all over the wall.
    crop = cv2.resize(rng.choice([30, 90, 160, 220], (9, 9, 3)).astype(np.uint8), (96, 96))
    x0, y0, size = rng.uniform(20, 45), rng.uniform(25, 45), rng.uniform(12, 28)
    face = (x0, y0, x0 + size, y0 + 1.2 * size)
    outside = grabcut_seed(96, face) == cv2.GC_BGD
    masks = GrabCutMasker(4, 96, 1.0)(photo_of(crop), crop, face)
    assert outside.any() and masks
    assert all((mask[outside] < 128).all() for mask in masks)
    assert sum((mask >= 128).astype(int) for mask in masks).max() == 1  # the candidates do not overlap


def test_a_mask_that_keeps_more_than_its_maker_allows_is_rejected():
    class Flood:
        max_share = 0.9

        def __call__(self, photo, crop, face):
            return [blob((0, 0, 63, 59))]

    done = mask_photos([photo_of(GREY)], Flood(), 0.3, resolution=32)[0]
    assert (done.reject.reason, done.reject.value, done.reject.threshold) == ("mask_keeps_all", 60 / 64, 0.9)
    Flood.max_share = 0.95
    assert mask_photos([photo_of(GREY)], Flood(), 0.3, resolution=32)[0].reject is None


@pytest.mark.skipif(not FACES.is_dir(), reason="the photographs are not here")
def test_a_portrait_whose_wall_looks_like_its_hair_is_rejected():
    pytest.importorskip("cv2")
    crop = np.asarray(Image.open(FACES / "newton_man" / "newton_2.png").convert("RGB").resize((256, 256)))
    photo = replace(photo_of(crop, (32.0, 32.0, 196.0, 195.0)), height=256, width=256)
    grabcut = MaskConfig(name="grabcut", min_overlap=0.3, **{**NONE, "iterations": 5, "side": 256, "max_share": 0.95})
    assert mask_photos([photo], make_masker(grabcut, "unused"), 0.3, resolution=64)[0].reject.reason == "mask_keeps_all"
