"""Where a row starts, if not at pure noise: image to image, inpainting, and inpainting U-Nets.

Image to image is SDEdit (Meng et al. 2022): the picture's latents with the noise of a later step. Inpainting puts the
picture back after every step wherever the mask says that it stays, as noisy as the row itself then is (RePaint,
Lugmayr et al. 2022, without its jumps). An inpainting U-Net sees mask and masked picture beside the noise.

Shapes: C x h x w latents of one row.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pm.model.base import BaseModel, encode_images
from pm.sample.pictures import Picture, first_step, fitted, picture_of, strength_of
from pm.sample.request import Request
from pm.sample.schedules.base import Plan


@dataclass(frozen=True)
class Start:
    """Of one row; all tensors float32."""

    index: int = 0  # first step; those before it are left out
    picture: Tensor | None = None  # [C, h, w] latents that it starts from, with noise; None: from noise alone
    kept: Tensor | None = None  # [C, h, w] latents of what stays; None: nothing does
    mask: Tensor | None = None  # [1, h, w], 1: drawn anew, 0: as in `kept`
    seen: Tensor | None = None  # [C + 1, h, w] mask and masked picture, which an inpainting U-Net sees beside the noise

    def to(self, device: torch.device | str) -> "Start":
        """Move all tensors."""
        tensors = self.picture, self.kept, self.mask, self.seen
        return Start(self.index, *(None if tensor is None else tensor.to(device) for tensor in tensors))

    def first(self, plan: Plan, noise: Tensor) -> Tensor:
        """The first latents [C, h, w], from noise of unit variance."""
        if self.picture is None:
            return noise * plan.init_sigma
        return _mixed(plan, self.index, self.picture, noise)

    def put_back(self, plan: Plan, index: int, latents: Tensor, noise: Tensor) -> Tensor:
        """Latents [C, h, w] before step `index`, with what stays as noisy as they are."""
        if self.kept is None or self.mask is None:
            return latents
        return (1 - self.mask) * _mixed(plan, index, self.kept, noise) + self.mask * latents


class Starter:
    """Makes the starts of rows for one base; a picture that several rows start from is encoded once."""

    def __init__(self, base: BaseModel) -> None:
        """`base`: loaded with its VAE."""
        self.base = base
        self._moments: dict[tuple, tuple[Tensor, Tensor]] = {}

    def fields(self, request: Request, size: tuple[int, int]) -> dict[str, Any]:
        """`start`, `noise` and `generator` of the row for a request drawn at `size` (width, height) in pixels.

        The row's generator draws in the order of diffusers' pipelines: the picture's latents, the noise, the masked
        picture's latents.
        """
        picture, base = picture_of(request), self.base
        if picture is None and not base.extra_channels:
            return {"noise": request.noise, "generator": request.generator}
        generator = request.generator or torch.Generator().manual_seed(request.seed)
        width, height = size
        shape = (base.latent_channels, height // base.vae_scale_factor, width // base.vae_scale_factor)
        if picture is None:
            return {"noise": request.noise, "generator": generator, "start": Start(seen=self._blank(size))}
        picture = fitted(picture, size)
        inpainting = picture.mask is not None and not base.extra_channels
        pure = picture.mask is not None and strength_of(request) == 1
        latents = None if pure and not inpainting else self._latents(request, picture.image, size, generator)
        noise = request.noise
        if noise is None:
            noise = torch.randn(shape, generator=generator, device=generator.device)
        mask = None if picture.mask is None else _mask(picture.mask, shape[1:])
        start = Start(
            first_step(request),
            None if pure else latents,
            latents if inpainting else None,
            mask if inpainting else None,
            self._seen(request, picture, mask, size, generator) if base.extra_channels else None,
        )
        return {"noise": noise, "generator": generator, "start": start}

    def _seen(
        self,
        request: Request,
        picture: Picture,
        mask: Tensor | None,
        size: tuple[int, int],
        generator: torch.Generator,
    ) -> Tensor:
        if picture.mask is None or mask is None:
            return self._blank(size)
        pixels = _pixels(picture.image) * (_pixels(picture.mask) < 0)  # what is drawn anew is 0, the grey in the middle
        return torch.cat([mask, self._sampled((id(request.image), id(request.mask_image), size), pixels, generator)])

    def _latents(
        self, request: Request, image: Image.Image, size: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        return self._sampled((id(request.image), size), _pixels(image), generator)

    def _sampled(self, key: tuple, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Latents [C, h, w] of pixels [1, 3, H, W] in -1..1, drawn from the VAE's posterior."""
        if key not in self._moments:
            self._moments[key] = encode_images(self.base, pixels)
        mean, logvar = (moment.cpu() for moment in self._moments[key])
        drawn = torch.randn(mean.shape, generator=generator, device=generator.device).cpu()
        return (mean + (0.5 * logvar).exp() * drawn)[0] * self.base.scaling_factor

    def _blank(self, size: tuple[int, int]) -> Tensor:
        """What an inpainting U-Net sees where everything is drawn anew."""
        width, height = size
        key = ("blank", size)
        if key not in self._moments:
            self._moments[key] = encode_images(self.base, torch.zeros(1, 3, height, width))
        mean = self._moments[key][0][0].cpu() * self.base.scaling_factor
        return torch.cat([torch.ones_like(mean[:1]), mean])


def _mixed(plan: Plan, index: int, clean: Tensor, noise: Tensor) -> Tensor:
    """As noisy as latents are before step `index` of a plan."""
    signal, share = plan.signal_and_noise[index]
    return signal * clean + share * noise


def _mask(mask: Image.Image, size: tuple[int, ...]) -> Tensor:
    """[1, h, w] of zeros and ones; the nearest pixel decides, as in diffusers."""
    return F.interpolate((_pixels(mask) > 0).float(), size)[0]


def _pixels(image: Image.Image) -> Tensor:
    """[1, channels, H, W] float32 in -1..1."""
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).float()
    return (flat.view(image.height, image.width, -1).permute(2, 0, 1)[None] / 255) * 2 - 1
