"""Two people on one canvas: does each half show its own person, and how often the other one?

    python benchmarks/people.py [--pairs 16] [--steps 30] [--picture docs/images/people.png] [--table runs/people.md]

Pairs of toon people that no training has seen, with two photos each, on a canvas of two squares side by side. The
toon base has learnt to draw one person, so this measures regions of one canvas. The attribute probe reads each half:

- own: share of its person's identity attributes, of all; and of those alone in which the two differ, beside the share
  of these that are the other person's;
- confused: share of halves that have more of the other person than of their own.

Ways: places given as boxes; the same photos and prompts without any place (every position sees both people); places
found from cross-attention; and, for what the adapter can do at all, each person alone on a square of their own. Where
nothing says who is on the left, a picture is read in the order that suits it better.
"""

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pm.evaluate.statistics import bootstrap
from pm.files import replace_file
from pm.sample import Person, PhotoMakerPipeline, Request
from pm.sample.grid import GridRow, labelled_grid
from pm.sample.output_file import save_png
from pm.toon import captions
from pm.toon.attributes import IDENTITY_ATTRIBUTES, Identity
from pm.toon.identities import framing, identities, scene
from pm.toon.probe import load_probe
from pm.toon.render import render_photo

ASSETS = Path(__file__).resolve().parents[1] / "assets" / "toon"
WAYS = ("boxes", "no places", "found", "each alone")
PHOTOS = 2  # of each person


def pairs_of(count: int, seed: int) -> list[tuple[Identity, Identity]]:
    people = identities(2 * count, seed, "eval")
    return list(zip(people[::2], people[1::2], strict=True))


def requests(pipe: PhotoMakerPipeline, pair: Sequence[Identity], seed: int, steps: int) -> dict[str, list[Request]]:
    """Of each way; "each alone" has one for each person."""
    rng, side = random.Random(seed), pipe.base.resolution
    photos = [[render_photo(p, scene(rng), framing(rng)).image for _ in range(PHOTOS)] for p in pair]
    known = [pipe.embed(pipe.references(some)) for some in photos]
    said, how = scene(rng), {"seed": seed, "steps": steps}
    both = captions.describe(f"a {pair[0].class_word} img and a {pair[1].class_word} img2", said)
    wide = how | {"width": 2 * side, "height": side}
    placed = [Person(id_embeds=e, box=box) for e, box in zip(known, ("left", "right"), strict=True)]
    anywhere = [replace(each, box=None) for each in placed]
    alone = [captions.describe(f"a {p.class_word} img", said) for p in pair]
    return {
        "boxes": [Request(both, people=placed, **wide)],
        "no places": [Request(both, people=placed, **wide)],
        "found": [Request(both, people=anywhere, **wide)],
        "each alone": [Request(text, id_embeds=e, **how) for text, e in zip(alone, known, strict=True)],
    }


def drawn(pipe: PhotoMakerPipeline, asked: Sequence[Request], free: bool, batch: int) -> list[np.ndarray]:
    """Pictures; `free`: with all places taken out of the rows."""
    made = []
    for start in range(0, len(asked), batch):
        sampler, keys = pipe.sampler(), []
        for row in pipe.prepare(asked[start : start + batch]):
            told = replace(row.conditioning, regions=None) if free else row.conditioning
            keys.append(sampler.add(replace(row, conditioning=told)))
        while len(sampler):
            sampler.step()
        done = sampler.finished()
        made += [np.asarray(pipe.decode(done[key])) for key in keys]
    return made


def halves(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 [people, S, S, 3]: left and right of each wide picture, or squares as they are."""
    split = (half for p in pictures for half in (np.split(p, 2, axis=1) if p.shape[1] > p.shape[0] else [p]))
    return np.stack(list(split))


def judged(read: Sequence[dict[str, str]], pairs: Sequence[Sequence[Identity]], ordered: bool) -> np.ndarray:
    """[pairs, 4]: own, own of what differs, the other's of that, confused. `ordered`: the first one is on the left."""
    found = []
    for n, pair in enumerate(pairs):
        orders = [_judged(read[2 * n : 2 * n + 2], order) for order in ((pair,) if ordered else (pair, pair[::-1]))]
        found.append(max(orders, key=lambda values: values[1] - values[2]))
    return np.stack(found)


def _judged(read: Sequence[dict[str, str]], pair: Sequence[Identity]) -> np.ndarray:
    rows = []
    for seen, own, other in zip(read, pair, pair[::-1], strict=True):
        differ = [name for name in IDENTITY_ATTRIBUTES if getattr(own, name) != getattr(other, name)]
        mine, theirs = (sum(seen[k] == getattr(who, k) for k in differ) / len(differ) for who in (own, other))
        whole = sum(seen[k] == getattr(own, k) for k in IDENTITY_ATTRIBUTES) / len(IDENTITY_ATTRIBUTES)
        rows.append((whole, mine, theirs, float(theirs > mine)))
    return np.mean(rows, axis=0)


def main() -> None:
    args = parse()
    pipe = PhotoMakerPipeline.from_pretrained(args.base, args.adapter)
    pairs = pairs_of(args.pairs, args.seed)
    asked = [requests(pipe, pair, i, args.steps) for i, pair in enumerate(pairs)]
    probe, begin = load_probe(ASSETS / "probe.safetensors"), time.perf_counter()
    lines = ["| | own | own, of what differs | the other's, of what differs | confused |", "|---|---|---|---|---|"]
    pictures = {}
    for way in WAYS:
        pictures[way] = drawn(pipe, [r for each in asked for r in each[way]], way == "no places", args.batch)
        values = judged(probe.read(halves(pictures[way])), pairs, way in ("boxes", "each alone"))
        lines.append(f"| {way} | " + " | ".join(str(bootstrap(list(each))) for each in values.T) + " |")
    table = "\n".join(lines)
    print(f"{args.pairs} pairs, {args.steps} steps, {time.perf_counter() - begin:.0f} s\n\n{table}")
    if args.table:
        with replace_file(args.table, mode=0o644) as file:
            file.write_text(table + "\n")
    if args.picture:
        rows = []
        for i in range(min(3, args.pairs)):
            shown = [
                Image.fromarray(render_photo(p, scene(random.Random(i)), framing(random.Random(i))).image)
                for p in pairs[i]
            ]
            made = [Image.fromarray(pictures[way][i]) for way in WAYS[:3]]
            rows.append(GridRow(made, shown, asked[i]["boxes"][0].prompt, list(WAYS[:3])))
        save_png(args.picture, labelled_grid(rows), {})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=str(ASSETS))
    parser.add_argument("--adapter", default=str(ASSETS / "adapter.safetensors"))
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--picture", type=Path, help="where to write the first three pairs")
    parser.add_argument("--table", type=Path, help="where to write the table, in Markdown")
    return parser.parse_args()


if __name__ == "__main__":
    main()
