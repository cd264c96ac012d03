"""Write toon photo folders: `root/<identity>/<photo>.png` with a sidecar `.json` each, as preprocess reads them.

The generator can plant the defects that raw photo collections have, so that the filters have work; `truth.json` in the
root says which photo has which defect. Nothing in preprocess reads that file.
"""

import base64
import dataclasses
import io
import json
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from pm.cpus import process_map
from pm.errors import ConfigError, DataError
from pm.files import remove_leftovers, replace_folder
from pm.toon import captions
from pm.toon import identities as people_of
from pm.toon.attributes import Framing, Identity, Scene
from pm.toon.covers import covers, seen_attributes, tight
from pm.toon.identities import framing, scene
from pm.toon.render import Photo, background, face_geometry, paste, render_person, render_photo

DEFECTS = ("intruder", "two_people", "no_person", "too_small", "truncated")
DRAWN_FILE = ".drawn.json"  # the settings that the photos of a root were drawn with
SMALL = 20  # px, the side of a `too_small` photo


@dataclasses.dataclass(frozen=True)
class _Job:
    folder: str
    name: str
    person: Identity
    stranger: Identity
    defect: str | None
    seed: int
    size: int
    occlusion: float
    omit: float


def write_photos(
    root: Path | str,
    *,
    identities: int,
    photos_per_identity: int,
    seed: int,
    split: str,
    size: int = 64,
    defects: Mapping[str, float] | None = None,
    occlusion: float = 0.0,
    omit: float = 0.0,
    progress: bool = True,
) -> dict[str, int]:
    """Draw `identities` people with `photos_per_identity` photos each into a new folder `root`.

    Args:
        size: side of the square photos, px.
        defects: share of photos (0–1) per defect in `DEFECTS`; the rest are clean.
        occlusion: probability (0–1) of each thing that hides a part of the person (`covers`) and of a tight crop.
        omit: probability (0–1) with which a caption leaves out each thing that varies.

    Returns:
        Number of photos per defect, and 'clean'.

    Raises:
        ConfigError: unknown defect, shares that add up to more than 1, or another share outside 0 to 1.
        DataError: `root` exists and is not empty, or the split has too few people.
    """
    root, defects = Path(root), dict(defects or {})
    if unknown := set(defects) - set(DEFECTS):
        raise ConfigError(f"unknown toon defect {sorted(unknown)[0]!r}; valid defects: {', '.join(DEFECTS)}")
    if sum(defects.values()) > 1 or any(v < 0 for v in defects.values()):
        raise ConfigError(f"toon defect shares {defects} must be 0 or more and add up to at most 1")
    for name, share in (("occlusion", occlusion), ("omit", omit)):
        if not 0 <= share <= 1:
            raise ConfigError(f"{name}={share} is no share; use 0 to 1")
    if root.exists() and any(root.iterdir()):
        raise DataError(f"{root} exists and is not empty; choose another folder or remove it")
    people = people_of.identities(identities, seed, split)
    rng, jobs, truth = random.Random(f"photos:{seed}"), [], {}
    kinds, shares = [None, *defects], [1 - sum(defects.values()), *defects.values()]
    for p, person in enumerate(people):
        folder = f"toon{seed}-{p:05d}_{person.class_word}"
        for k in range(photos_per_identity):
            stranger = rng.choice([x for x in people if x != person] or [person])
            defect = rng.choices(kinds, shares)[0]
            name, own_seed = f"photo_{k:03d}", rng.getrandbits(48)
            jobs.append(_Job(folder, name, person, stranger, defect, own_seed, size, occlusion, omit))
            if defect:
                truth[f"{folder}/photo_{k:03d}.png"] = defect
    drawn: dict = {"identities": identities, "photos_per_identity": photos_per_identity, "seed": seed, "split": split}
    drawn |= {"defects": defects, "occlusion": occlusion, "omit": omit}
    _write_all(jobs, root, progress, {"truth.json": truth, DRAWN_FILE: drawn})
    counts = {"clean": len(jobs) - len(truth)}
    return counts | {d: sum(v == d for v in truth.values()) for d in defects}


def _write_all(jobs: list[_Job], root: Path, progress: bool, notes: dict[str, dict]) -> None:
    # A half-drawn world must never look finished, so it is drawn beside its place and moved there at the end.
    if root.parent.is_dir():
        remove_leftovers(root.parent, lambda name: name == root.name)  # of a drawing that was killed
    with replace_folder(root, sync=False) as partial:
        for folder in {j.folder for j in jobs}:
            (partial / folder).mkdir(parents=True)
        targets = [partial] * len(jobs)
        with process_map(chunksize=32) as draw:
            drawn = draw(_write, jobs, targets)
            for _ in tqdm(drawn, total=len(jobs), desc="drawing toon photos", unit="photo", disable=not progress):
                pass
        for name, content in notes.items():
            (partial / name).write_text(json.dumps(content, indent=1))


def _write(job: _Job, root: Path) -> None:
    rng, hiding = random.Random(job.seed), random.Random(f"covers:{job.seed}")
    view, frame = scene(rng), tight(hiding, job.occlusion, framing(rng))
    over, unsaid = covers(hiding, job.occlusion), captions.omissions(hiding, job.omit)
    shown = job.stranger if job.defect == "intruder" else job.person
    path = root / job.folder / f"{job.name}.png"
    if job.defect == "no_person":
        photo = Photo(background(view.background, job.size), np.zeros((job.size,) * 2, np.uint8), None, ())
        faces: list[dict] = []
    elif job.defect == "two_people":
        photo, faces = _two_people(job, view, rng)
    else:
        size = SMALL if job.defect == "too_small" else job.size
        photo = render_photo(shown, view, frame, size, over)
        faces = [_face(*face_geometry(frame, size))]
    Image.fromarray(photo.image).save(path)
    if job.defect == "truncated":
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    mask = io.BytesIO()
    Image.fromarray(photo.mask).save(mask, "PNG")
    # An intruder's photo was found under the other person's name: the words say that name's class.
    sidecar = {
        "caption": captions.caption(job.person, view, rng, unsaid, over),
        "class_word": job.person.class_word,
        "faces": faces,
        "mask_png": base64.b64encode(mask.getvalue()).decode(),
        "attributes": seen_attributes(shown, view, over, frame),
    }
    path.with_suffix(".json").write_text(json.dumps(sidecar))


def _face(box: tuple[float, ...], landmarks: tuple[tuple[float, float], ...]) -> dict:
    return {"box": list(box), "landmarks": [list(p) for p in landmarks], "score": 1.0}


def _two_people(job: _Job, view: Scene, rng: random.Random) -> tuple[Photo, list[dict]]:
    """The person and a stranger side by side, both half size; the mask is the person's."""
    left, right = Framing(0.62, -0.22, 0.12, rng.uniform(-6, 6)), Framing(0.62, 0.22, 0.12, rng.uniform(-6, 6))
    mine, other = (left, right) if rng.random() < 0.5 else (right, left)
    ground = background(view.background, job.size)
    stranger = render_person(job.stranger, scene(rng), other, job.size)
    person = render_person(job.person, view, mine, job.size)
    image = paste(paste(ground, stranger), person)
    geometry = face_geometry(mine, job.size)
    faces = [_face(*geometry), _face(*face_geometry(other, job.size))]
    rng.shuffle(faces)
    return Photo(image, person[..., 3].copy(), *geometry), faces
