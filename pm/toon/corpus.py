"""Toon photos in memory, for pre-training: rendered in parallel from a seed and cached in one `.npz`."""

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pm.cpus import process_map
from pm.files import open_atomic
from pm.toon import captions
from pm.toon.attributes import ATTRIBUTES, IDENTITY_ATTRIBUTES, Identity, Scene
from pm.toon.covers import Covers, covers, seen_attributes, tight
from pm.toon.identities import all_identities, framing, scene, split_of
from pm.toon.render import render_photo

HIDDEN = -1  # label of an attribute that cannot be seen in the photo


@dataclasses.dataclass(frozen=True)
class Corpus:
    """`images` uint8 [n, S, S, 3], `masks` uint8 [n, S, S], `boxes` float32 [n, 4] of the faces in pixels, `labels`
    int64 [n, attributes] (`HIDDEN` = not visible), `people`, `scenes` and `covers` of each photo."""

    images: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    people: list[Identity]
    scenes: list[Scene]
    covers: list[Covers]

    def texts(self, kind: str, rng: random.Random, *, omit: float = 0.0, forget: float = 0.0) -> list[str]:
        """One caption a photo: 'scene' (what varies), 'full' (and who), 'person' (who alone), or 'before' (who, and the
        class word after it). None says what cannot be seen.

        Args:
            omit: probability with which each thing that varies is left unsaid.
            forget: probability with which a description of the person leaves each trait unsaid with an even chance.
        """
        return [self._text(kind, i, rng, omit, forget) for i in range(len(self.people))]

    def _text(self, kind: str, i: int, rng: random.Random, omit: float, forget: float) -> str:
        person, scene_, over = self.people[i], self.scenes[i], self.covers[i]
        unsaid = captions.omissions(rng, omit)
        if kind == "scene":
            return captions.caption(person, scene_, rng, unsaid, over)
        forgetful = rng.random() < forget
        seen = [k for k in IDENTITY_ATTRIBUTES if self._sees(i, k) and not (forgetful and rng.random() < 0.5)]
        if kind == "full":
            return captions.identity_caption(person, scene_, rng, unsaid, over, seen)
        who, word = captions.traits(person, seen), person.class_word
        if not who:
            return f"a {word}"
        return f"somebody with {who}, a {word}" if kind == "before" else f"a {word} with {who}"

    def _sees(self, i: int, name: str) -> bool:
        return bool(self.labels[i, list(ATTRIBUTES).index(name)] != HIDDEN)


_Row = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict, dict]


def _render(job: tuple[Identity, int, int, float]) -> _Row:
    person, seed, size, occlusion = job
    rng, hiding = random.Random(seed), random.Random(f"covers:{seed}")
    view, frame = scene(rng), tight(hiding, occlusion, framing(rng))
    over = covers(hiding, occlusion)
    photo = render_photo(person, view, frame, size, over)
    seen = seen_attributes(person, view, over, frame)
    labels = [ATTRIBUTES[k].index(seen[k]) if k in seen else HIDDEN for k in ATTRIBUTES]
    box = np.array(photo.face_box, np.float32)
    return photo.image, photo.mask, box, np.array(labels), dataclasses.asdict(view), dataclasses.asdict(over)


def render_corpus(
    people: list[Identity], photos_each: int, seed: int, size: int, cache: Path | None = None, occlusion: float = 0.0
) -> Corpus:
    """`photos_each` random photos of every person; read from `cache` if it was written for the same request.

    Args:
        occlusion: probability of each cover and of a tight crop, 0 to 1.
    """
    key = json.dumps([len(people), photos_each, seed, size, occlusion])
    each = [p for p in people for _ in range(photos_each)]
    if cache and cache.exists():
        with np.load(cache) as data:
            if str(data["key"]) == key:
                views = [Scene(**s) for s in json.loads(str(data["scenes"]))]
                over = [Covers(**c) for c in json.loads(str(data["covers"]))]
                return Corpus(data["images"], data["masks"], data["boxes"], data["labels"], each, views, over)
    jobs = [(person, seed * 1_000_003 + i, size, occlusion) for i, person in enumerate(each)]
    with process_map(chunksize=64) as draw:
        rows = list(tqdm(draw(_render, jobs), total=len(jobs), desc="drawing photos", unit="photo"))
    images, masks, boxes, labels = (np.stack([r[i] for r in rows]) for i in range(4))
    said: dict[str, Any] = {k: json.dumps([r[i] for r in rows]) for k, i in (("scenes", 4), ("covers", 5))}
    if cache:
        with open_atomic(cache, "wb", sync=False) as stream:
            np.savez(stream, key=key, images=images, masks=masks, boxes=boxes, labels=labels, **said)
    return Corpus(images, masks, boxes, labels, each, [Scene(**r[4]) for r in rows], [Covers(**r[5]) for r in rows])


def people_of(split: str) -> list[Identity]:
    """Everybody of a split; no evaluation person is ever in 'train', by construction of the split."""
    return [i for i in all_identities() if split_of(i) == split]
