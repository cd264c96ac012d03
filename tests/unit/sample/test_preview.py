"""Linear previews against the VAE."""

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pm.model.base import decode_latents, encode_images, load_base
from pm.sample.preview import preview_image, preview_map
from pm.toon.identities import framing, identities, scene
from pm.toon.render import render_photo

TOON = Path(__file__).resolve().parents[3] / "assets" / "toon"


def test_a_preview_looks_like_the_picture():
    base, rng = load_base(TOON, parts=("vae",)), random.Random(0)
    people = identities(6, 0, "eval")
    drawn = np.stack([render_photo(person, scene(rng), framing(rng), 64).image for person in people])
    images = torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 127.5 - 1
    latents = encode_images(base, images)[0] * base.scaling_factor
    mapping = preview_map(base)
    assert mapping.shape == (base.latent_channels + 1, 3)
    decoded = decode_latents(base, latents)
    for one, picture in zip(latents, decoded, strict=True):
        preview = preview_image(one, mapping)
        assert preview.size == (16, 16)
        small = Image.fromarray((picture.permute(1, 2, 0).numpy() * 255).astype(np.uint8)).resize((16, 16), Image.BOX)
        a, b = (np.asarray(image, dtype=float).ravel() for image in (preview, small))
        assert np.abs(a - b).mean() < 40 and np.corrcoef(a, b)[0, 1] > 0.8
    assert preview_image(latents[0], mapping, side=64).size == (64, 64)
