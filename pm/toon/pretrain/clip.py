"""CLIP: the vision tower and text encoder 1, trained together from captions."""

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pm.toon.attributes import IDENTITY_ATTRIBUTES, Identity
from pm.toon.base import ToonParts
from pm.toon.corpus import Corpus
from pm.toon.pretrain.fit import fit
from pm.toon.pretrain.gates import identity_labels, readable
from pm.toon.pretrain.stages import (
    CLIP_MEAN,
    CLIP_STD,
    Settings,
    noisy_surroundings,
    pixels_of,
    random_rows,
    tokenize,
)

NEAR = 4  # people of a batch that differ from each other in one trait


def train_clip(parts: ToonParts, corpus: Corpus, settings: Settings, work: Path) -> dict:
    """Contrastive pre-training of the vision tower and text encoder 1 (CLIP's symmetric loss).

    Captions alternate between who, what varies, and both, so that neither drowns the other; half of the photos have
    their surroundings replaced by noise, as PhotoMaker's ID images do, and can then be matched by the person only.
    Those batches hold people who differ in a single trait: what is small, as eyebrows are, else decides nothing.
    """
    clip, tokenizer = parts.clip, parts.tokenizers[0]
    rng = random.Random(settings.seed)
    tokens = {kind: tokenize(tokenizer, corpus.texts(kind, rng)) for kind in ("person", "scene", "full")}
    neighbours = near_people(corpus.people[:: settings.photos_each])

    def loss_of(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        kind = ("person", "scene", "person", "full")[step % 4]
        if kind == "person":
            rows = near_rows(neighbours, settings.photos_each, settings.clip_batch, generator)
        else:
            rows = random_rows(corpus, settings.clip_batch, generator)
        pixels = pixels_of(corpus, rows)
        if kind == "person":
            pixels = noisy_surroundings(corpus, rows, pixels, generator)
        ids = tokens[kind][rows]
        ids = ids[:, : int((ids != tokenizer.pad_token_id).sum(1).max()) + 2]
        out = clip(input_ids=ids, pixel_values=(pixels - CLIP_MEAN) / CLIP_STD)
        # People repeat within a batch, so equal captions are equally right.
        same = (tokens[kind][rows][:, None] == tokens[kind][rows][None]).all(-1).float()
        target = same / same.sum(1, keepdim=True)
        loss = (F.cross_entropy(out.logits_per_image, target) + F.cross_entropy(out.logits_per_text, target)) / 2
        hits = same.gather(1, out.logits_per_image.argmax(1, keepdim=True)).mean()
        return {"loss": loss, "top1": hits}

    modules = nn.ModuleDict({"clip": clip})
    return fit("clip", modules, loss_of, steps=settings.clip_steps, lr=1e-3, work=work, seed=settings.seed)


@torch.no_grad()
def tower_readable(parts: ToonParts, corpus: Corpus, unseen: Corpus) -> dict[str, float]:
    """What a linear classifier reads of unseen people from the tower's pooled output (`gates.readable`)."""

    def features(photos: Corpus) -> Tensor:
        found = []
        for rows in torch.arange(len(photos.people)).split(256):
            pixels = (pixels_of(photos, rows) - CLIP_MEAN) / CLIP_STD
            found.append(parts.clip.vision_model(pixels).pooler_output)
        return torch.cat(found)

    seen, others = features(corpus), features(unseen)
    with torch.enable_grad():
        return readable(seen, identity_labels(corpus), others, identity_labels(unseen))


def near_people(people: list[Identity]) -> list[list[int]]:
    """For each person the places in `people` of those who differ from them in one trait."""
    places = {person: i for i, person in enumerate(people)}
    groups: dict[tuple, list[int]] = {}
    for person, place in places.items():
        for trait in IDENTITY_ATTRIBUTES:
            rest = tuple(getattr(person, name) for name in ("class_word", *IDENTITY_ATTRIBUTES) if name != trait)
            groups.setdefault((trait, rest), []).append(place)
    found: list[list[int]] = [[] for _ in people]
    for members in groups.values():
        for place in members:
            found[place] += [other for other in members if other != place]
    return found


def near_rows(neighbours: list[list[int]], photos_each: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` rows of photos: random people, each followed by `NEAR` - 1 neighbours of theirs."""
    people: list[int] = []
    while len(people) < count:
        person = int(torch.randint(len(neighbours), (), generator=generator))
        order = torch.randperm(len(neighbours[person]), generator=generator)[: NEAR - 1].tolist()
        people += [person, *(neighbours[person][i] for i in order)]
    photo = torch.randint(photos_each, (count,), generator=generator)
    return torch.tensor(people[:count]) * photos_each + photo
