"""How well ID verification cleans folders with strangers in them: purity and recall, by rule, group size and share.

    python benchmarks/intruders.py                         # toon people, embedded by the toon probe
    python benchmarks/intruders.py --faces photos          # your own folders of real people, embedded by dlib

Photos of other people are planted under a person's name. Purity: which share of the kept photos shows the person.
Recall: which share of the person's photos was kept. Groups are drawn again and again from the same photos.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pm.data.records import Face, Photo
from pm.data.source.folder import Folder
from pm.data.source.listing import Listing
from pm.data.stages.faces import find_faces
from pm.data.stages.ingest import ingest
from pm.data.stages.verify import verify
from pm.data.verify.choice import VerifyChoice
from pm.data.verify.similarity import Similarity
from pm.photo.embedders.dlib import Dlib as DlibEmbedding
from pm.photo.embedders.embed import EmbedderChoice
from pm.photo.embedders.probe import Probe
from pm.photo.faces.detect import FaceChoice
from pm.photo.faces.dlib import Dlib
from pm.photo.faces.sidecar import Sidecar

ROOT = Path(__file__).resolve().parents[1]
PROBE = ROOT / "assets" / "toon" / "probe.safetensors"
SHARES = (0.05, 0.2, 0.4)
RULES = {
    "paper, 8 δ": ("group", 8.0, 1),
    "paper's rule, 3 δ": ("group", 3.0, 1),
    "paper's rule, 2 δ": ("group", 2.0, 1),
    "robust 5, one round": ("robust", 5.0, 1),
    "robust 5, four rounds (default)": ("robust", 5.0, 4),
}
TOON, REAL = Probe("probe", 0.1, 1.0, str(PROBE)), DlibEmbedding("dlib", 0.03, 0.5)  # as in conf/embedder


def embeddings(root: Path, face: FaceChoice, embedder: EmbedderChoice, min_side: int) -> dict[str, np.ndarray]:
    """The largest face of every photo, [photos, E] for each person."""
    unset = dict.fromkeys(("near_duplicate", "licence", "provenance"))
    source = Folder("folder", str(root), min_side=min_side, max_pixels=10**8, max_bytes=10**8, **unset)
    with Listing(source) as listing:
        photos = ingest(list(listing.photos()), root, source)
    models = face.build(), embedder.build()
    people: dict[str, list] = {}
    for photo in find_faces(photos, root, *models, face.min_size):
        if not photo.reject:
            largest = max(photo.faces, key=lambda f: f.box[2] - f.box[0])
            people.setdefault(photo.identity, []).append(largest.embedding)
    return {name: np.array(vectors) for name, vectors in people.items()}


def trial(
    people: Mapping[str, np.ndarray], rule: VerifyChoice, embedder: EmbedderChoice, size: int, share: float, rng
) -> tuple[int, int, int, int]:
    """One group: (own photos, of those kept, intruders, of those kept)."""
    names = sorted(people)
    who = names[rng.integers(len(names))]
    strangers = min(size - 1, max(1, round(size * share)))
    own = rng.permutation(len(people[who]))[: size - strangers]
    others = [n for n in names if n != who]
    vectors = [people[who][i] for i in own]
    for _ in range(strangers):
        other = people[others[rng.integers(len(others))]]
        vectors.append(other[rng.integers(len(other))])
    faces = [Face((0.0, 0.0, 9.0, 9.0), (), 1.0, tuple(map(float, v))) for v in vectors]
    group = [Photo(who, str(i), faces=(face,)) for i, face in enumerate(faces)]
    kept = [p.reject is None for p in verify(group, rule, embedder, min_photos=2)]
    return len(own), sum(kept[: len(own)]), strangers, sum(kept[len(own) :])


def table(
    people: Mapping[str, np.ndarray], embedder: EmbedderChoice, sizes: tuple[int, ...], trials: int
) -> list[dict]:
    """Every rule, size and share, each over the same groups."""
    rows = []
    for size in sizes:
        for share in SHARES:
            for name, (spread, threshold, rounds) in RULES.items():
                rng = np.random.default_rng([size, round(100 * share)])
                rule = Similarity("similarity", threshold, spread, rounds, common_person=False)
                runs = np.array([trial(people, rule, embedder, size, share, rng) for _ in range(trials)])
                own, own_kept, strangers, strangers_kept = runs.sum(0)
                kept = own_kept + strangers_kept
                rows.append(
                    {
                        "photos": size,
                        "intruders": share,
                        "rule": name,
                        "purity_before": own / (own + strangers),
                        "purity": own_kept / kept if kept else 1.0,
                        "recall": own_kept / own,
                    }
                )
    return rows


def distances(people: Mapping[str, np.ndarray], rng) -> dict[str, list[float]]:
    """5 %, 50 % and 95 % of the distances of unit embeddings, of one person and of two."""
    unit = {name: v / np.linalg.norm(v, axis=1, keepdims=True) for name, v in people.items()}
    names, found = sorted(unit), {"same": [], "other": []}
    for _ in range(4000):
        a, b = rng.choice(len(names), 2, replace=False)
        one, two = unit[names[a]], unit[names[b]]
        i, j = rng.choice(len(one), 2, replace=False)
        found["same"].append(np.linalg.norm(one[i] - one[j]))
        found["other"].append(np.linalg.norm(one[i] - two[rng.integers(len(two))]))
    return {kind: [round(float(q), 2) for q in np.quantile(v, (0.05, 0.5, 0.95))] for kind, v in found.items()}


def show(rows: list[dict]) -> None:
    print("| photos of a person | intruders | rule | purity before | purity | recall |\n|---|---|---|---|---|---|")
    for row in rows:
        values = (f"{100 * row[name]:.1f} %" for name in ("purity_before", "purity", "recall"))
        print(f"| {row['photos']} | {row['intruders']:.0%} | {row['rule']} | {' | '.join(values)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, help="folders of real people; without it, toon people are drawn")
    parser.add_argument("--people", type=int, default=24, help="toon people")
    parser.add_argument("--photos", type=int, default=64, help="photos of each toon person")
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 24, 100], help="photos in a group")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.faces:
        face = Dlib("dlib", min_size=60, upsample=1, max_side=640)
        people, embedder = embeddings(args.faces, face, REAL, 100), REAL
    else:
        from pm.toon.world import write_photos

        with tempfile.TemporaryDirectory() as folder:
            wanted = {"identities": args.people, "photos_per_identity": args.photos, "seed": args.seed}
            write_photos(Path(folder, "toon"), **wanted, split="eval")
            face = Sidecar("sidecar", min_size=8)
            people, embedder = embeddings(Path(folder, "toon"), face, TOON, 32), TOON
    most = min(map(len, people.values()))
    sizes = tuple(size for size in args.sizes if round(size * (1 - min(SHARES))) <= most)
    print(f"{len(people)} people, {most} photos or more each, embedder {embedder.name}, {args.trials} groups a row\n")
    print(
        "distances (5 %, 50 %, 95 %): {same} within a person, {other} between two\n".format(
            **distances(people, np.random.default_rng(0))
        )
    )
    rows = table(people, embedder, sizes, args.trials)
    show(rows)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
