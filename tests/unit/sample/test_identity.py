"""ID photos prepared as an adapter's metadata says, and refused with a reason."""

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from pm.errors import CheckpointError, RequestError
from pm.model.adapter_file import AdapterMeta
from pm.sample.identity import PHOTO, prepare_all, preparer
from pm.sample.wall import has_wall, people_on_wall
from pm.toon.attributes import Framing
from pm.toon.identities import framing, identities, scene
from pm.toon.render import background, paste, render_person, render_photo

ROOT = Path(__file__).resolve().parents[3]
FACES = ROOT.parent / "shared" / "faces"
META = AdapterMeta("", "stacked", "insert", "img", 4, "face+mask", "0", {}, {})


def _settings(face: str) -> dict:
    how = dataclasses.asdict(PHOTO)
    return how if face == "dlib" else {**how, "face": {"name": face, "min_size": 8}}


def _toon(seed: int) -> tuple[Image.Image, np.ndarray]:
    rng = random.Random(seed)
    photo = render_photo(identities(1, seed, "train")[0], scene(rng), framing(rng), 64)
    return Image.fromarray(photo.image), photo.mask >= 128


def test_values_without_metadata_are_those_of_the_configuration():
    for name, config in (("face/dlib", PHOTO.face), ("mask/grabcut", PHOTO.mask)):
        assert yaml.safe_load((ROOT / "conf" / f"{name}.yaml").read_text()) == dataclasses.asdict(config)
    assert yaml.safe_load((ROOT / "conf" / "preprocess.yaml").read_text())["crop"] == dataclasses.asdict(PHOTO.crop)


def test_published_weights_and_none_take_photos_as_they_are():
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    for prepare in (preparer(None), preparer(dataclasses.replace(META, crop_mode="none")), preparer(META, "none")):
        (reference,) = prepare_all([photo], prepare)
        assert reference.mask is None and np.array_equal(np.asarray(reference.image), np.asarray(photo))


def test_people_before_a_plain_wall():
    overlaps, prepare = [], preparer(dataclasses.replace(META, extra={"preprocess": _settings("sidecar")}))
    for seed in range(12):
        image, person = _toon(seed)
        assert has_wall(image)
        (reference,) = prepare_all([image], prepare)
        found = np.asarray(reference.mask) >= 128
        overlaps.append((found & person).sum() / (found | person).sum())
    assert np.mean(overlaps) > 0.85


def test_the_larger_of_two_people_is_taken_and_it_is_said():
    rng, ground = random.Random(0), background("pink", 96)
    for place in (Framing(0.4, -0.3, 0.2, 0.0), Framing(0.3, 0.32, 0.2, 0.0)):
        person = render_person(identities(1, 1, "train")[0], scene(rng), place, 96)
        ground = paste(ground, person)
    picture = Image.fromarray(ground)
    assert len(people_on_wall(picture)) == 2
    (reference,) = prepare_all([picture], preparer(META, "drawing"))
    assert reference.notes == ("photo 1: 2 people, took the largest",)
    assert (np.asarray(reference.mask) >= 128)[:, :48].any() and not (np.asarray(reference.mask) >= 128)[:, 60:].any()


def test_what_drawings_are_refused():
    good, prepare = _toon(0)[0], preparer(META, "drawing")
    with pytest.raises(RequestError, match="photo 2: shows nobody in front of its background; use another"):
        prepare_all([good, Image.fromarray(background("blue", 64))], prepare)
    with pytest.raises(RequestError, match="photo 1: is 20 x 20 pixels, needs 24 at least"):
        prepare_all([good.resize((20, 20))], prepare)
    with pytest.raises(CheckpointError, match="metadata about ID photos is damaged"):
        preparer(dataclasses.replace(META, extra={"preprocess": {"face": {}}}))


@pytest.mark.skipif(not FACES.is_dir(), reason="real photographs are not here")
def test_real_photographs():
    pytest.importorskip("dlib")
    pytest.importorskip("cv2")
    quick = _settings("dlib")
    quick["face"] |= {"max_side": 500}
    quick["mask"] |= {"iterations": 1, "side": 96}
    prepare = preparer(dataclasses.replace(META, extra={"preprocess": quick}))
    one, other = (Image.open(FACES / name).convert("RGB").resize((400, 400)) for name in _two_photos())
    (reference,) = prepare_all([one], prepare)
    assert reference.image.width == reference.image.height and reference.notes == ()
    assert 0.05 < (np.asarray(reference.mask) >= 128).mean() < 0.95
    both = Image.new("RGB", (640, 400), "gray")
    both.paste(one, (0, 0))
    both.paste(other.resize((240, 240)), (400, 80))
    (chosen,) = prepare_all([both], prepare)
    assert len(chosen.notes) == 1 and "2 faces, took the largest" in chosen.notes[0]
    with pytest.raises(RequestError, match=r"photo 1: face too small \(\d+ pixels, needs 80\); use another photo"):
        prepare_all([one.resize((150, 150))], prepare)
    with pytest.raises(RequestError, match="photo 1: no face found"):
        prepare_all([Image.new("RGB", (200, 200), "gray")], prepare)


def _two_photos() -> tuple[str, str]:
    people = sorted(path for path in FACES.iterdir() if path.is_dir())
    return tuple(str(sorted(p.glob("*.[jp][pn]*g"))[0].relative_to(FACES)) for p in people[:2])
