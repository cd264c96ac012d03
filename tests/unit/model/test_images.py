"""ID pixels."""

import numpy as np
import torch
from PIL import Image

from pm.model.images import masks_to_bool, noise_fill, to_clip, to_uint8


def _photo(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_noise_replaces_only_what_is_outside_and_follows_the_seed():
    pixels = to_uint8([_photo(40, 30), _photo(30, 40)], 16)
    masks = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    masks[:, :, 4:12, 4:12] = True
    filled = noise_fill(pixels, masks, torch.Generator().manual_seed(3))
    assert torch.equal(filled[:, :, 4:12, 4:12], pixels[:, :, 4:12, 4:12])
    outside = ~masks.expand_as(pixels)
    assert (filled[outside] != pixels[outside]).float().mean() > 0.95
    assert abs(filled[outside].float().mean() - 127.5) < 8
    assert torch.equal(filled, noise_fill(pixels, masks, torch.Generator().manual_seed(3)))
    assert not torch.equal(filled, noise_fill(pixels, masks, torch.Generator().manual_seed(4)))


def test_photo_and_mask_are_cropped_alike():
    mask = Image.new("L", (60, 20), 0)
    mask.paste(255, (14, 0, 46, 20))  # wider than the square: resizing comes first and looks beyond it
    assert masks_to_bool([mask], 8).all()
    photo = Image.merge("RGB", [mask] * 3)
    assert (to_uint8([photo], 8) == 255).all()


def test_pil_and_tensor_of_the_same_size_agree():
    photo = _photo(16, 16)
    assert torch.equal(to_clip([photo], 16), to_clip(to_uint8([photo], 16), 16))
    assert to_clip(torch.zeros(0, 3, 16, 16, dtype=torch.uint8), 16).shape == (0, 3, 16, 16)
