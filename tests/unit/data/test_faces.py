import json

import pytest
from support.photos import ingested, write_photo

from pm.data.stages.faces import find_faces
from pm.photo.faces.sidecar import annotated_faces


def sidecar_faces_of(root, min_size=8):
    photos = ingested(root)
    return {p.photo: p for p in find_faces(photos, root, annotated_faces, None, min_size)}


def test_sidecar_faces_are_clipped_and_kept_in_full(root):
    write_photo(root / "p0_man" / "0.png", 0, face=(-10, 16, 44, 80))
    face = sidecar_faces_of(root)["p0_man/0.png"].face
    assert face.box == (0, 16, 44, 64)
    assert face.landmarks == (26, 28, 38, 28) and face.score == pytest.approx(0.9) and face.embedding == ()


def test_what_has_no_usable_face_is_rejected_with_the_reason(root):
    write_photo(root / "p0_man" / "0.png", 101, face=None)
    write_photo(root / "p0_man" / "1.png", 102, face=(10, 10, 40, 17))
    (root / "p0_man" / "2.json").unlink()
    (root / "p0_man" / "3.json").write_text("{broken")
    (root / "p1_man" / "0.json").write_text(json.dumps({"faces": [{"box": ["a", 1, 2, 3]}]}))
    found = sidecar_faces_of(root)
    rejects = {name: p.reject for name, p in found.items() if p.reject}
    assert {name: r.reason for name, r in rejects.items()} == {
        "p0_man/0.png": "no_face",
        "p0_man/1.png": "face_too_small",
        "p0_man/2.png": "no_sidecar",
        "p0_man/3.png": "bad_sidecar",
        "p1_man/0.png": "bad_sidecar",
    }
    assert (rejects["p0_man/1.png"].value, rejects["p0_man/1.png"].threshold) == (7, 8)
    assert len(found) == 12 and {r.stage for r in rejects.values()} == {"faces"}


def test_small_faces_do_not_stand_in_for_large_ones(root):
    path = root / "p0_man" / "0.json"
    content = json.loads(path.read_text())
    content["faces"].append({"box": [0, 0, 5, 5]})
    path.write_text(json.dumps(content))
    assert len(sidecar_faces_of(root)["p0_man/0.png"].faces) == 1
