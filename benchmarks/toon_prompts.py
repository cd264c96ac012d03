"""Does the toon base draw what a prompt says? Probe accuracy of every prompted attribute, base alone.

    python benchmarks/toon_prompts.py [--prompts 512] [--guidance 5] [--steps 25]

Prompts say everything a caption can say; scenes and class words are drawn from a seed. The same probe reads drawings
of the same scenes by the toon world itself, once as they are and once through the base's VAE: what it would read from
perfect pictures.
"""

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pm.sample import PhotoMakerPipeline, Request
from pm.toon import captions
from pm.toon.corpus import people_of
from pm.toon.identities import framing, scene
from pm.toon.probe import load_probe
from pm.toon.render import render_photo

ASSETS = Path(__file__).resolve().parents[1] / "assets" / "toon"


def main() -> None:
    args = parse()
    rng = random.Random(args.seed)
    people = rng.choices(people_of("eval"), k=args.prompts)
    scenes = [scene(rng) for _ in people]
    pipeline = PhotoMakerPipeline.from_pretrained(args.base)
    texts = [captions.describe(f"a {p.class_word}", s) for p, s in zip(people, scenes, strict=True)]
    requests = [Request(prompt=t, seed=i, steps=args.steps, guidance=args.guidance) for i, t in enumerate(texts)]
    start = time.perf_counter()
    images = stack(pipeline.generate(requests, batch_size=args.batch))
    seconds = (time.perf_counter() - start) / len(images)
    pairs = list(zip(people, scenes, strict=True))
    drawn = stack([render_photo(p, s, framing(rng), images.shape[1]).image for p, s in pairs])
    probe = load_probe(ASSETS / "probe.safetensors")
    said = [{"class_word": p.class_word} | captions.prompted(s) for p, s in pairs]
    columns = [accuracy(probe.read(shown), said) for shown in (images, through_vae(pipeline, drawn), drawn)]
    print(f"{len(images)} prompts, {args.steps} steps, CFG {args.guidance}, {seconds:.2f} s an image\n")
    print("| prompted | base | drawings through the VAE | drawings |\n|---|---|---|---|")
    for name in columns[0]:
        print(f"| {name.replace('_', ' ')} | " + " | ".join(f"{100 * c[name]:.1f}" for c in columns) + " |")
    if args.picture:
        sheet([images[i] for i in range(min(32, len(images)))]).save(args.picture)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default=str(ASSETS))
    parser.add_argument("--prompts", type=int, default=512)
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--picture", type=Path, help="where to write the first 32 images")
    return parser.parse_args()


def stack(images: Sequence[Image.Image | np.ndarray]) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images])


def accuracy(read: Sequence[dict[str, str]], said: Sequence[dict[str, str]]) -> dict[str, float]:
    """Share of prompts whose attribute is read as said, by attribute, and `all prompted` without the class word."""
    hits: dict[str, list[bool]] = defaultdict(list)
    for seen, truth in zip(read, said, strict=True):
        for name, value in truth.items():
            hits[name].append(seen[name] == value)
    result = {name: float(np.mean(found)) for name, found in hits.items()}
    result["all prompted"] = float(np.mean([h for name, found in hits.items() if name != "class_word" for h in found]))
    return result


@torch.no_grad()
def through_vae(pipeline: PhotoMakerPipeline, images: np.ndarray) -> np.ndarray:
    """Images uint8 [n, S, S, 3] encoded to the posterior's mean and decoded again."""
    vae, result = pipeline.base.vae, []
    for some in np.array_split(images, max(1, len(images) // 64)):
        pixels = torch.from_numpy(some).permute(0, 3, 1, 2).to(vae.device, vae.dtype) / 127.5 - 1
        decoded = vae.decode(vae.encode(pixels).latent_dist.mean).sample
        result.append(((decoded.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(result)


def sheet(images: Sequence[np.ndarray], columns: int = 8) -> Image.Image:
    rows = [np.concatenate(images[i : i + columns], 1) for i in range(0, len(images) // columns * columns, columns)]
    whole = np.concatenate(rows, 0)
    return Image.fromarray(whole).resize((whole.shape[1] * 2, whole.shape[0] * 2), Image.Resampling.NEAREST)


if __name__ == "__main__":
    main()
