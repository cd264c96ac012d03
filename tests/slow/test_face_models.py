"""dlib's and the toon probe's real models on photos."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.photos import ingested

from pm.data.stages.faces import find_faces
from pm.photo.dlib_models import dlib_model
from pm.photo.embedders.dlib import Dlib as Embedding
from pm.photo.embedders.probe import Probe
from pm.photo.faces.dlib import Dlib
from pm.photo.faces.sidecar import annotated_faces

REPO = Path(__file__).resolve().parents[2]
REAL = REPO.parent / "shared" / "faces"
PROBE = REPO / "assets" / "toon" / "probe.safetensors"


def test_dlib_sees_no_face_on_a_wall(tmp_path):
    pytest.importorskip("dlib")
    (tmp_path / "wall_man").mkdir()
    Image.new("RGB", (96, 96), "gray").save(tmp_path / "wall_man" / "0.png")
    detector = Dlib("dlib", 20, upsample=0, max_side=96).build()
    photos = ingested(tmp_path)
    done = find_faces(photos, tmp_path, detector, Embedding("dlib", 0.03, 0.5).build(), 20)
    assert done[0].reject.reason == "no_face"


def test_dlib_models_are_found_without_importing_their_package():
    import sys

    assert Path(dlib_model("dlib_face_recognition_resnet_model_v1.dat")).is_file()
    assert "face_recognition_models" not in sys.modules


@pytest.mark.skipif(not REAL.is_dir(), reason="the real photos are not here")
def test_dlib_tells_two_people_apart(tmp_path):
    pytest.importorskip("dlib")
    config = Dlib("dlib", 80, upsample=0, max_side=300)
    names = ("newton_man/newton_1.jpg", "newton_man/newton_3.jpg", "yangmi_woman/yangmi_5.jpg")
    photos = [p for p in ingested(REAL, 256) if p.photo in names]
    done = find_faces(photos, REAL, config.build(), Embedding("dlib", 0.03, 0.5).build(), config.min_size)
    a, b, c = (np.array(p.face.embedding) for p in done)
    assert np.linalg.norm(a - b) < 0.6 < min(np.linalg.norm(a - c), np.linalg.norm(b - c))
    for photo in done:
        x0, y0, x1, y1 = photo.face.box
        points = np.array(photo.face.landmarks).reshape(5, 2)
        assert ((points > (x0, y0)) & (points < (x1, y1))).all()


@pytest.mark.skipif(not PROBE.is_file(), reason="the toon probe is not here")
def test_the_probe_finds_planted_strangers_and_the_right_face_of_two(tmp_path):
    from pm.data.source.beside import read_sidecar
    from pm.data.stages.verify import verify
    from pm.data.verify.similarity import Similarity
    from pm.photo.masks.select import face_overlap
    from pm.photo.sidecar import sidecar_mask
    from pm.toon.world import write_photos

    root = tmp_path / "toon"
    defects = {"intruder": 0.1, "two_people": 0.1}
    write_photos(root, identities=10, photos_per_identity=8, seed=5, split="train", defects=defects, progress=False)
    truth = json.loads((root / "truth.json").read_text())
    photos, embedder = ingested(root, 32), Probe("probe", 0.1, None, str(PROBE))
    photos = find_faces(photos, root, annotated_faces, embedder.build(), 8)
    rule = {"name": "similarity", "threshold": 5.0, "spread": "robust"}
    done = verify(photos, Similarity(**rule, rounds=4, common_person=False), embedder, min_photos=2)
    intruders = [p for p in done if truth.get(p.photo) == "intruder"]
    clean = [p for p in done if p.photo not in truth]
    assert len(intruders) > 4 and sum(p.reject is not None for p in intruders) >= 0.8 * len(intruders)
    assert sum(p.reject is not None for p in clean) <= 0.05 * len(clean)
    for photo in done:
        if truth.get(photo.photo) == "two_people":
            mask = sidecar_mask(read_sidecar(root, photo.photo), photo.height, photo.width)
            assert face_overlap(mask, photo.face.box) > 0.5
