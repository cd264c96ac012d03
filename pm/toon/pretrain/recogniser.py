"""Train the recogniser of drawn people that losses use (`pm.toon.recogniser`).

    python -m pm.toon.pretrain.recogniser runs/recogniser/recogniser.safetensors

Two photos of each person of a batch, taken apart from all others by InfoNCE (van den Oord et al. 2018); half of a batch
are people who differ from another one in a single trait, since chance brings such pairs together too rarely. Only
people of the training split, in photos of a seed of its own. It resumes.
"""

import argparse
import dataclasses
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pm.files import replace_file
from pm.toon.attributes import IDENTITY_ATTRIBUTES, Identity
from pm.toon.corpus import Corpus, people_of, render_corpus
from pm.toon.pretrain.fit import fit
from pm.toon.pretrain.stages import pixels_of, random_crops
from pm.toon.recogniser import RESOLUTION, Recogniser, save_recogniser

SEED, PHOTOS_EACH, STEPS, PEOPLE = 4711, 4, 2500, 64
_TEMPERATURE = 0.07


def train_recogniser(corpus: Corpus, photos_each: int, steps: int, work: Path, people: int = PEOPLE) -> Recogniser:
    """A recogniser of the people of a corpus, each with `photos_each` photos in a row."""
    torch.manual_seed(SEED)
    recogniser, each = Recogniser(), corpus.people[::photos_each]
    number = {person: i for i, person in enumerate(each)}
    count = min(people, len(each))

    def loss_of(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        rng = random.Random(f"{SEED}:{step}")
        chosen = rng.sample(each, count // 2)
        near = [person for one in chosen if (person := _neighbour(one, number, rng)) is not None]
        rows = torch.tensor([number[person] for person in dict.fromkeys([*chosen, *near])]) * photos_each
        photos = torch.stack([torch.randperm(photos_each, generator=generator)[:2] for _ in rows])
        one, other = (recogniser(_varied(pixels_of(corpus, rows + photos[:, side]), generator)) for side in range(2))
        logits, wanted = one @ other.T / _TEMPERATURE, torch.arange(len(rows))
        loss = (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)) / 2
        return {"loss": loss, "right": (logits.argmax(1) == wanted).float().mean()}

    modules = nn.ModuleDict({"recogniser": recogniser})
    fit("recogniser", modules, loss_of, steps=steps, lr=1e-3, work=work, seed=SEED, ema=0.99)
    return recogniser.eval()


def _neighbour(person: Identity, known: dict[Identity, int], rng: random.Random) -> Identity | None:
    """Somebody of the corpus who differs in one trait."""
    trait = rng.choice(list(IDENTITY_ATTRIBUTES))
    values = {getattr(other, trait) for other in known}
    others = [dataclasses.replace(person, **{trait: value}) for value in sorted(values)]
    found = [other for other in others if other != person and other in known]
    return rng.choice(found) if found else None


def _varied(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Shifted by up to 3 pixels, some softened and noisy: what a decoder makes of latents is read, too."""
    shifted = random_crops(F.pad(pixels, [3] * 4, mode="replicate"), pixels.shape[-1], generator)
    small = F.interpolate(shifted, scale_factor=0.6, mode="bilinear", antialias=True)
    soft = F.interpolate(small, shifted.shape[-2:], mode="bilinear")
    amount = torch.rand(len(pixels), 1, 1, 1, generator=generator)
    noise = torch.randn(pixels.shape, generator=generator) * 0.05 * amount
    return (shifted + amount * (soft - shifted) + noise).clamp(0, 1)


@torch.no_grad()
def told_apart(recogniser: Recogniser, corpus: Corpus, photos_each: int) -> float:
    """How often another photo of a person is nearer than one of anybody else of the corpus."""
    first = torch.arange(0, len(corpus.images), photos_each)
    one, other = (recogniser(pixels_of(corpus, first + i)) for i in range(2))
    return float(((one @ other.T).argmax(1) == torch.arange(len(first))).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    work = options.file.parent / "recogniser-work"
    work.mkdir(parents=True, exist_ok=True)
    corpus = render_corpus(people_of("train"), PHOTOS_EACH, SEED, RESOLUTION, work / "train.npz")
    recogniser = train_recogniser(corpus, PHOTOS_EACH, options.steps, work)
    with replace_file(options.file, mode=0o644) as temporary:
        save_recogniser(recogniser, temporary)
    unseen = render_corpus(people_of("eval"), 2, SEED + 1, RESOLUTION, work / "eval.npz")
    right, count = told_apart(recogniser, unseen, 2), len(unseen.images) // 2
    print(f"{options.file}: finds {100 * right:.1f} % of {count} people it has never seen by another photo of them")


if __name__ == "__main__":
    main()
