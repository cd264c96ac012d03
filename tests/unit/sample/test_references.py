"""ID photos from disk."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pm.errors import ConfigError, RequestError
from pm.photo.crop import CropConfig
from pm.photo.faces.dlib import Dlib
from pm.photo.faces.sidecar import Sidecar
from pm.photo.masks.grabcut import GrabCut
from pm.photo.masks.sidecar import Sidecar as SidecarMask
from pm.sample.identity import load_references
from pm.sample.references import find_references

CROP = CropConfig(face_share=0.1, working_side=512, max_upscale=4)
SIDECAR = Sidecar("sidecar", min_size=4)
MASK = SidecarMask("sidecar", min_overlap=0.3, max_share=1.0)
FACES = Path(__file__).resolve().parents[4] / "shared" / "faces"


def _photo(path: Path, size=(60, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return path


def _annotate(path: Path, box, person) -> None:
    with Image.open(path) as image:
        mask = Image.new("L", image.size, 0)
    mask.paste(255, person)
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    content = {"faces": [{"box": box}], "mask_png": base64.b64encode(buffer.getvalue()).decode()}
    path.with_suffix(".json").write_text(json.dumps(content))


def test_files_folders_and_patterns_in_the_order_given(tmp_path):
    a, b, c = (_photo(tmp_path / name) for name in ("me/2.png", "me/1.jpg", "you/x.png"))
    (tmp_path / "me" / "notes.txt").write_text("no photo")
    assert find_references([str(c), str(tmp_path / "me")]) == [c, b, a]
    assert find_references([str(tmp_path / "*" / "*.png")]) == [a, c]
    with pytest.raises(RequestError, match=f"no photo at {tmp_path}/nobody; give files"):
        find_references([str(tmp_path / "nobody")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=f"no photo in the folder {tmp_path}/empty; give files"):
        find_references([str(tmp_path / "empty")])


def test_without_annotations_the_centre_is_taken(tmp_path):
    photo = _photo(tmp_path / "a.png")
    (reference,) = load_references([photo], None, None, CROP)
    with Image.open(photo) as image:
        assert np.array_equal(np.asarray(reference.image), np.asarray(image)[:, 10:50])
    assert reference.mask is None


@pytest.mark.parametrize(("face", "mask"), [(None, None), (SIDECAR, MASK)])
def test_a_sidecar_gives_crop_and_mask(tmp_path, face, mask):
    photo = _photo(tmp_path / "a.png")
    _annotate(photo, [44, 4, 54, 14], (40, 0, 60, 40))
    (reference,) = load_references([photo], face, mask, CROP)
    side = int((10 * 10 / 0.1) ** 0.5)
    with Image.open(photo) as image:
        expected = np.asarray(image)[:side, 60 - side :]
    assert np.array_equal(np.asarray(reference.image), expected)
    assert (np.asarray(reference.mask) >= 128).mean() == pytest.approx(20 / side, abs=0.02)


def test_largest_face_is_the_person(tmp_path):
    photo = _photo(tmp_path / "a.png", (100, 40))
    _annotate(photo, [5, 5, 10, 10], (0, 0, 100, 40))
    content = json.loads(photo.with_suffix(".json").read_text())
    content["faces"].append({"box": [80, 10, 95, 25]})
    photo.with_suffix(".json").write_text(json.dumps(content))
    (reference,) = load_references([photo], SIDECAR, None, CROP)
    with Image.open(photo) as image:
        assert np.array_equal(np.asarray(reference.image), np.asarray(image)[:, 60:])


def test_what_cannot_be_prepared_says_why(tmp_path):
    photo = _photo(tmp_path / "a.png")
    with pytest.raises(RequestError, match="a.png: no sidecar; use another photo, or preprocess=none"):
        load_references([photo], SIDECAR, MASK, CROP)
    with pytest.raises(ConfigError, match="mask=sidecar needs to know the face"):
        load_references([photo], None, MASK, CROP)
    (tmp_path / "b.png").write_bytes(b"not a picture")
    with pytest.raises(RequestError, match="b.png: cannot be read .*give a PNG, JPEG, WebP or HEIC file"):
        load_references([tmp_path / "b.png"], None, None, CROP)


@pytest.mark.skipif(not FACES.is_dir(), reason="real photographs are not here")
def test_real_photographs_through_dlib_and_grabcut():
    pytest.importorskip("dlib")
    photos = find_references([str(FACES / "newton_man" / "newton_[13].jpg")])
    dlib = Dlib("dlib", min_size=40, upsample=1, max_side=1280)
    grabcut = GrabCut("grabcut", min_overlap=0.3, max_share=0.95, iterations=2, side=128)
    for reference in load_references(photos, dlib, grabcut, CROP):
        assert reference.image.width == reference.image.height >= 100
        assert 0.1 < (np.asarray(reference.mask) >= 128).mean() < 0.95
