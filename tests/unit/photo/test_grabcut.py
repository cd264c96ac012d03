"""GrabCut around a face."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pm.photo.masks.grabcut import GrabCut
from pm.photo.masks.select import select_mask
from pm.photo.types import Crop, PhotoView, Refusal

FACES = Path(__file__).resolve().parents[4] / "shared" / "faces"


def crop_of(pixels, face=(20.0, 20.0, 40.0, 40.0)) -> Crop:
    return Crop(PhotoView.of(pixels), (0, 0, pixels.shape[1], pixels.shape[0]), face, pixels)


def masked(choice, crop):
    return select_mask(crop, choice.build()(crop), choice.min_overlap, choice.max_share)


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
    photo = crop_of(crop.clip(0, 255).astype(np.uint8), (36.0, 26.0, 60.0, 54.0))
    first, second = (masked(GrabCut("grabcut", 0.3, 0.95, 3, 64), photo) for _ in range(2))
    mask = first >= 128
    assert np.array_equal(first, second)
    assert (mask & (truth > 0)).sum() / (mask | (truth > 0)).sum() > 0.9


def test_grabcut_on_one_colour_does_not_fail():
    pytest.importorskip("cv2")
    done = masked(GrabCut("grabcut", 0.3, 0.95, 3, 64), crop_of(np.full((64, 64, 3), 128, np.uint8)))
    assert not isinstance(done, Refusal) or done.reason in ("no_mask", "mask_misses_face")


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
    masks = GrabCutMasker(4, 96)(crop_of(crop, face))
    assert outside.any() and masks
    assert all((mask[outside] < 128).all() for mask in masks)
    assert sum((mask >= 128).astype(int) for mask in masks).max() == 1  # the candidates do not overlap


@pytest.mark.skipif(not FACES.is_dir(), reason="the photographs are not here")
def test_a_portrait_whose_wall_looks_like_its_hair_is_rejected():
    pytest.importorskip("cv2")
    crop = np.asarray(Image.open(FACES / "newton_man" / "newton_2.png").convert("RGB").resize((256, 256)))
    done = masked(GrabCut("grabcut", 0.3, 0.95, 5, 256), crop_of(crop, (32.0, 32.0, 196.0, 195.0)))
    assert done.reason == "mask_keeps_all"
