"""Toon photos in memory, for pre-training: rendered in parallel from a seed and cached in one `.npz`."""

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pm.cpus import process_map
from pm.files import open_atomic
from pm.toon import captions
from pm.toon.attributes import ATTRIBUTES, Identity, Scene, visible_attributes
from pm.toon.identities import all_identities, framing, scene, split_of
from pm.toon.render import render_photo

HIDDEN = -1  # label of an attribute that cannot be seen in the photo


@dataclasses.dataclass(frozen=True)
class Corpus:
    """`images` uint8 [n, S, S, 3], `masks` uint8 [n, S, S], `labels` int64 [n, attributes] (`HIDDEN` = not visible),
    `people` and `scenes` of each photo."""

    images: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    people: list[Identity]
    scenes: list[Scene]

    def texts(self, kind: str, rng: random.Random) -> list[str]:
        """One caption a photo: 'scene' (what varies), 'full' (and who), 'person' (who alone), or 'before' (who, and the
        class word after it)."""
        if kind == "scene":
            return [captions.caption(p, s, rng) for p, s in zip(self.people, self.scenes, strict=True)]
        if kind == "full":
            return [captions.identity_caption(p, s, rng) for p, s in zip(self.people, self.scenes, strict=True)]
        if kind == "before":
            return [f"somebody with {captions.traits(p)}, a {p.class_word}" for p in self.people]
        return [f"a {p.class_word} with {captions.traits(p)}" for p in self.people]


def _render(job: tuple[Identity, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
    person, seed, size = job
    rng = random.Random(seed)
    view = scene(rng)
    photo = render_photo(person, view, framing(rng), size)
    visible = visible_attributes(person, view)
    labels = [ATTRIBUTES[k].index(visible[k]) if k in visible else HIDDEN for k in ATTRIBUTES]
    return photo.image, photo.mask, np.array(labels), dataclasses.asdict(view)


def render_corpus(people: list[Identity], photos_each: int, seed: int, size: int, cache: Path | None = None) -> Corpus:
    """`photos_each` random photos of every person; read from `cache` if it was written for the same request."""
    key = json.dumps([len(people), photos_each, seed, size])
    if cache and cache.exists():
        with np.load(cache) as data:
            if str(data["key"]) == key:
                scenes = [Scene(**s) for s in json.loads(str(data["scenes"]))]
                each = [p for p in people for _ in range(photos_each)]
                return Corpus(data["images"], data["masks"], data["labels"], each, scenes)
    each = [p for p in people for _ in range(photos_each)]
    jobs = [(person, seed * 1_000_003 + i, size) for i, person in enumerate(each)]
    with process_map(chunksize=64) as draw:
        rows = list(tqdm(draw(_render, jobs), total=len(jobs), desc="drawing photos", unit="photo"))
    images, masks, labels = (np.stack([r[i] for r in rows]) for i in range(3))
    views = [r[3] for r in rows]
    if cache:
        with open_atomic(cache, "wb", sync=False) as stream:
            np.savez(stream, key=key, images=images, masks=masks, labels=labels, scenes=json.dumps(views))
    return Corpus(images, masks, labels, each, [Scene(**v) for v in views])


def people_of(split: str) -> list[Identity]:
    """Everybody of a split; no evaluation person is ever in 'train', by construction of the split."""
    return [i for i in all_identities() if split_of(i) == split]
