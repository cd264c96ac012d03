"""Which reference does the U-Net look at for which trait: attention of the identity tokens, on the toon world.

    python benchmarks/attention_maps.py runs/toon/adapter.safetensors --people 64 --output runs/attention

Each person has four references: a hat hides the hair in the first, goggles the eyebrows in the second, a scarf the
beard in the third, nothing is hidden in the fourth. The U-Net sees a noisy drawing of the person with the stacked
tokens of all four. `attention.json` and the printed table say which share of what the identity tokens are given each of
them gets, in the places of the hair, the eyebrows and the beard; `attention.png` shows the maps of some people:
references above, below each where its token is attended to. An adapter with one token for all photos (compose=average
or linear) has nothing to choose between, and is refused.
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from pm.errors import PmError
from pm.files import write_json
from pm.model.adapter_file import load_adapter
from pm.model.base import BaseModel, encode_images, encode_text, load_base
from pm.model.conditioning import Conditioning
from pm.model.fused import LoraSwitch
from pm.model.images import masks_to_bool, noise_fill, to_clip, to_uint8
from pm.model.kinds.base import kind_of
from pm.model.localisation import AttentionWatch
from pm.model.prompt import class_token_index, mark, tokenize
from pm.resources import resource
from pm.toon import captions
from pm.toon.attributes import Identity
from pm.toon.covers import NOTHING, Covers
from pm.toon.geometry import to_pixels
from pm.toon.identities import framing, identities, scene
from pm.toon.render import Photo, render_photo
from pm.train.diffusion import add_noise, noise_schedule

# What hides what in the references, in their order; the places of traits, in drawing units, as in `pm.toon.covers`.
HIDDEN = {
    "hair": Covers(headwear="bobble hat", headwear_color="green"),
    "eyebrows": Covers(goggles=True),
    "facial_hair": Covers(scarf_color="blue"),
    "nothing": NOTHING,
}
PLACES = {"hair": (96, 34, 184, 84), "eyebrows": (108, 96, 172, 112), "facial_hair": (110, 150, 170, 186)}
LEVELS = (0.2, 0.4, 0.6, 0.8)  # of the noise, as shares of the base's timesteps
_CELL, _SHOWN = 96, 6  # px of a picture in the sheet; people in it


def maps_of(base: BaseModel, conditioner: Any, watch: AttentionWatch, person: Identity, seed: int) -> tuple:
    """Attention to each identity token, float [4, S, S] in the target's size; target, its framing, references."""
    rng = random.Random(seed)
    size = base.resolution
    photos = [render_photo(person, scene(rng), framing(rng), size, over) for over in HIDDEN.values()]
    view, frame = scene(rng), framing(rng)
    target = render_photo(person, view, frame, size)
    conditioning, index = _conditioned(
        base, conditioner, photos, captions.caption(person, view), person.class_word, size
    )
    pixels = torch.from_numpy(target.image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    latents = encode_images(base, pixels)[0] * base.scaling_factor
    schedule, found = noise_schedule(base.scheduler_config), []
    generator = torch.Generator().manual_seed(seed)
    for level in LEVELS:
        timesteps = torch.full((1,), int(level * len(schedule)))
        noise = torch.randn(latents.shape, generator=generator)
        noisy = add_noise(schedule, latents, noise, timesteps).expand(len(HIDDEN), -1, -1, -1)
        with watch.watching(index + torch.arange(len(HIDDEN))) as seen:
            base.predict(noisy, timesteps.expand(len(HIDDEN)), conditioning)
        found += [_drawn(attention, size) for attention in seen.values()]
    return torch.stack(found).mean(0), target, frame, photos


def _conditioned(
    base: BaseModel, conditioner: Any, photos: list[Photo], caption: str, word: str, size: int
) -> tuple[Conditioning, int]:
    """As many equal rows as there are references, one to watch each token in; and where the first token stands."""
    side = conditioner.image_size
    images = to_uint8([Image.fromarray(photo.image) for photo in photos], side)
    masks = masks_to_bool([Image.fromarray(photo.mask) for photo in photos], side)
    seen = to_clip(noise_fill(images, masks, torch.Generator().manual_seed(0)), side)
    text = encode_text(base, tokenize(base.tokenizers, [caption]))
    index = class_token_index(base.tokenizers[0], mark(caption, word))
    told = torch.tensor([base.family.time_ids((size, size), (0, 0), (size, size))])
    made = conditioner.condition(text, torch.tensor([index]), seen, torch.tensor([len(photos)]), told)
    return made.rows([0] * len(photos)), index


def _drawn(attention: torch.Tensor, size: int) -> torch.Tensor:
    """[4, H, N] of a layer, as the mean over heads [4, size, size]."""
    side = round(attention.shape[-1] ** 0.5)
    mean = attention.float().mean(1).view(-1, 1, side, side)
    return F.interpolate(mean, (size, size), mode="bilinear")[:, 0]


def shares(maps: torch.Tensor, frame: Any) -> dict[str, list[float]]:
    """By trait: of what all identity tokens are given in its place, each one's share."""
    size, found = maps.shape[-1], {}
    for name, (x0, y0, x1, y1) in PLACES.items():
        corners = [to_pixels(x, y, frame, size) for x, y in ((x0, y0), (x1, y0), (x0, y1), (x1, y1))]
        left, top = (max(0, int(min(c[i] for c in corners))) for i in (0, 1))
        right, down = (min(size, int(max(c[i] for c in corners)) + 1) for i in (0, 1))
        given = maps[:, top:down, left:right].sum((1, 2))
        found[name] = (given / given.sum()).tolist()
    return found


def sheet(rows: list[tuple[torch.Tensor, Photo, list[Photo]]]) -> Image.Image:
    """A person each two lines: the target and the references, and below each reference its token's map."""
    wide, high = _CELL * (len(HIDDEN) + 1), 2 * _CELL * len(rows)
    page = Image.new("RGB", (wide, high), "white")
    for i, (maps, target, photos) in enumerate(rows):
        page.paste(Image.fromarray(target.image).resize((_CELL, _CELL)), (0, 2 * i * _CELL))
        most = float(maps.max())
        for k, photo in enumerate(photos):
            x = _CELL * (k + 1)
            page.paste(Image.fromarray(photo.image).resize((_CELL, _CELL)), (x, 2 * i * _CELL))
            heat = (maps[k] / most).numpy()[..., None]
            mixed = 0.35 * target.image * (1 - heat) + heat * np.array([255, 140, 0]) + 0.1 * target.image
            shown = Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8)).resize((_CELL, _CELL))
            page.paste(shown, (x, (2 * i + 1) * _CELL))
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path, nargs="?", default=Path(resource("assets/toon/adapter.safetensors")))
    parser.add_argument("--base", default=str(resource("assets/toon")))
    parser.add_argument("--people", type=int, default=64, help="half of them men: women have no beards")
    parser.add_argument("--output", type=Path, default=Path("runs/attention"))
    options = parser.parse_args()
    base = load_base(options.base)
    state, meta = load_adapter(options.adapter)
    conditioner, change = kind_of(meta.kind).read(base, state, meta, check_base=True)
    if int(conditioner.tokens_of_each(torch.tensor([len(HIDDEN)]))) != len(HIDDEN):
        raise PmError(f"{options.adapter} does not have a token for each photo; give one with compose=stacked")
    switch = LoraSwitch(base.unet)
    switch.use(change)
    watch, rows = AttentionWatch(base.unet, 99), []
    found: dict[str, list[list[float]]] = {name: [] for name in PLACES}
    with torch.no_grad():
        for seed, person in enumerate(identities(options.people, 0, "eval")):
            maps, target, frame, photos = maps_of(base, conditioner, watch, person, seed)
            for name, values in shares(maps, frame).items():
                if name != "facial_hair" or person.facial_hair != "no beard":
                    found[name].append(values)
            if len(rows) < _SHOWN:
                rows.append((maps, target, photos))
    options.output.mkdir(parents=True, exist_ok=True)
    result = {name: _summary(np.array(values)) for name, values in found.items() if values}
    write_json(options.output / "attention.json", {"hidden": list(HIDDEN), "shares": result}, indent=2)
    sheet(rows).save(options.output / "attention.png")
    print("share of attention (%) | " + " | ".join(f"hides {name}" for name in HIDDEN))
    for name, each in result.items():
        print(f"at the {name} | " + " | ".join(f"{100 * m:.1f} ± {100 * e:.1f}" for m, e in each))
    print(json.dumps({"people": options.people, "picture": str(options.output / "attention.png")}))


def _summary(values: np.ndarray) -> list[list[float]]:
    """Mean and standard error over people, of each reference."""
    error = values.std(0, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.zeros(values.shape[1])
    return [[float(m), float(e)] for m, e in zip(values.mean(0), error, strict=True)]


if __name__ == "__main__":
    main()
