"""From ID photos to the pixels that the vision tower sees."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

# Mean and standard deviation of CLIP's training images, RGB, for pixels in 0..1.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def to_clip(images: Tensor | Sequence[Image.Image], size: int) -> Tensor:
    """Resize to `size` x `size` and normalise as CLIP does.

    Args:
        images: uint8 [M, 3, H, W], or PIL images of any size (resized, then their centre).
        size: side of the vision tower's input, in pixels.

    Returns:
        float32 [M, 3, size, size].
    """
    pixels = images if isinstance(images, Tensor) else to_uint8(images, size)
    values = pixels.to(torch.float32, copy=True).div_(255)  # in place: fresh memory costs more than the arithmetic
    if values.shape[-2:] != (size, size):
        values = F.interpolate(values, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (values.new_tensor(c).view(1, 3, 1, 1) for c in (CLIP_MEAN, CLIP_STD))
    return values.sub_(mean).div_(std)


def to_uint8(images: Sequence[Image.Image], size: int) -> Tensor:
    """PIL images, resized and centre-cropped as CLIP's own processor does, as uint8 [M, 3, size, size]."""
    return torch.stack([_bytes(_fit(image.convert("RGB"), size, Image.Resampling.BICUBIC), 3) for image in images])


def masks_to_bool(masks: Sequence[Image.Image], size: int) -> Tensor:
    """Person masks (white = person), resized and cropped like the photos, as bool [M, 1, size, size]."""
    return torch.stack([_bytes(_fit(mask.convert("L"), size, Image.Resampling.BILINEAR), 1) for mask in masks]) >= 128


def _fit(image: Image.Image, size: int, method: Image.Resampling) -> Image.Image:
    """Shorter side to `size` pixels, then the centre."""
    short = min(image.size)
    width, height = (size if side == short else int(size * side / short) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), method).crop((left, top, left + size, top + size))


def square(image: Image.Image) -> Image.Image:
    """The largest centred square of `image`."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def noise_fill(pixels: Tensor, masks: Tensor, generator: torch.Generator) -> Tensor:
    """Replace everything outside the person by uniform noise (paper section 3.2), out of place.

    Filled at the vision tower's own resolution: noise that is resized afterwards is no longer white.

    Args:
        pixels: uint8 [..., 3, H, W].
        masks: [..., 1, H, W], non-zero or True on the person.
        generator: CPU generator, so that the fill is reproducible.
    """
    count = pixels.numel()
    # Eight pixels from one draw: `torch.randint` spends 64 random bits on each of its bytes.
    words = torch.empty(-(-count // 8), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    noise = words.view(torch.uint8)[:count].view(pixels.shape)
    return torch.where(masks.bool(), pixels, noise.to(pixels.device))


def _bytes(image: Image.Image, channels: int) -> Tensor:
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.view(image.height, image.width, channels).permute(2, 0, 1)
