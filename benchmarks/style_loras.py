"""Two small style LoRAs for the toon base, and a picture of what they do beside the shipped adapter.

    python benchmarks/style_loras.py --output runs/styles [--steps 120]

Drawn people in grey ("ink") and in the light of an evening ("dusk"), with their captions, teach LoRA of rank 8 on the
U-Net's attention what all pictures have in common: about a minute each on one core. `styles.png` has a row for each
example person: without a style, with either, and with both.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch

from pm.files import replace_file
from pm.methods.learn import Denoiser, Examples, examples_of, fit, tail, train_step
from pm.methods.trial import Photo
from pm.methods.tuning import Tuning
from pm.model.base import BaseModel, encode_text, load_base
from pm.model.lora import add_lora, lora_parameters
from pm.model.prompt import tokenize
from pm.model.shared import shared_copy
from pm.sample import PhotoMakerPipeline, Request
from pm.sample.grid import GridRow, labelled_grid
from pm.sample.output_file import save_png
from pm.toon.captions import identity_caption
from pm.toon.identities import identities, scene
from pm.toon.render import render_photo
from pm.train.losses.debiased import Debiased

ASSETS = Path(__file__).resolve().parents[1] / "assets" / "toon"
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
PEOPLE = 96


def ink(image: np.ndarray) -> np.ndarray:
    """Grey, with more contrast."""
    grey = image.astype(float) @ np.array([0.3, 0.59, 0.11])
    return np.repeat(np.clip((grey - 128) * 1.3 + 128, 0, 255)[..., None], 3, axis=2).astype(np.uint8)


def dusk(image: np.ndarray) -> np.ndarray:
    """Warm light from above, blue shadow below."""
    down = np.linspace(0, 1, image.shape[0])[:, None, None]
    light = (1 - down) * np.array([1.15, 0.85, 0.6]) + down * np.array([0.55, 0.6, 1.05])
    return np.clip(image * light, 0, 255).astype(np.uint8)


def learn(base: BaseModel, style, steps: int, seed: int) -> tuple[dict[str, torch.Tensor], float]:
    """The LoRA in diffusers' names, and its loss at the end."""
    rng = random.Random(seed)
    people = identities(PEOPLE, seed, "train")
    views = [scene(rng) for _ in people]
    photos = [Photo(style(render_photo(p, v).image), None) for p, v in zip(people, views, strict=True)]
    texts = [identity_caption(p, v, rng) for p, v in zip(people, views, strict=True)]
    examples = [examples_of(base, [photo], prompt=i) for i, photo in enumerate(photos)]
    stacked = Examples.concat(examples)
    torch.manual_seed(seed)
    unet = shared_copy(base.unet)
    add_lora(unet, 8, TARGETS)
    named = lora_parameters(unet, base.family.lora_prefix)
    settings = Tuning(steps, 8, 2e-3, 0.01, 0.0, Debiased("debiased"), False)
    step = train_step(base, Denoiser(base, unet, encode_text(base, tokenize(base.tokenizers, texts))), settings)
    generator = torch.Generator().manual_seed(seed)
    batches = iter(lambda: stacked.drawn(settings.batch_size, 0.0, generator), None)
    losses = fit(step, list(named.values()), batches, settings)
    return {name: value.detach().contiguous() for name, value in named.items()}, tail(losses)


def main() -> None:
    from safetensors.torch import save_file

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=120)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for seed, style in enumerate((ink, dusk)):
        state, loss = learn(load_base(ASSETS), style, args.steps, seed)
        with replace_file(args.output / f"{style.__name__}.safetensors", mode=0o644) as temporary:
            save_file(state, temporary, metadata={"format": "pt"})
        print(f"{style.__name__}: loss {loss:.4f}", flush=True)
    pipeline = PhotoMakerPipeline.from_pretrained(ASSETS, ASSETS / "adapter.safetensors")
    for style in (ink, dusk):
        pipeline.load_lora(args.output / f"{style.__name__}.safetensors")
    columns = [{}, {"ink": 1.0}, {"dusk": 1.0}, {"ink": 0.6, "dusk": 0.6}]
    rows = []
    for person in ("woman_1", "man_2"):
        photo = pipeline.references([ASSETS / "examples" / f"{person}.png"])
        prompt = f"a {person.partition('_')[0]} img wearing a red hoodie, smiling, in front of a blue wall"
        known = pipeline.embed(photo)
        requests = [Request(prompt, id_embeds=known, steps=30, seed=3, loras=loras) for loras in columns]
        labels = [", ".join(f"{name} {strength:g}" for name, strength in loras.items()) or "none" for loras in columns]
        rows.append(GridRow(pipeline.generate(requests, batch_size=4), [photo[0].image], prompt, labels))
    save_png(args.output / "styles.png", labelled_grid(rows), {})


if __name__ == "__main__":
    main()
