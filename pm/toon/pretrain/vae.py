"""The autoencoder: photos to latents and back."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from pm.toon.corpus import Corpus
from pm.toon.pretrain.fit import fit
from pm.toon.pretrain.stages import Settings, face_weights, pixels_of, random_crops, random_rows


def _edges(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]


def train_vae(vae: AutoencoderKL, corpus: Corpus, settings: Settings, work: Path) -> dict:
    """L1 on pixels and on edges, weighted in the face, plus a small KL term, on random crops; sets the latents' scaling
    factor."""
    crop, side = settings.vae_crop, corpus.images.shape[1]

    def loss_of(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        # The last fifth sees whole photos: group norm's statistics differ between crops and photos.
        whole = step >= settings.vae_steps * 0.8
        count = settings.vae_batch // 4 if whole else settings.vae_batch
        rows = random_rows(corpus, count, generator)
        x = torch.cat([pixels_of(corpus, rows) * 2 - 1, face_weights(corpus, rows, settings.face_weight, side)], 1)
        if not whole:
            x = random_crops(x, crop, generator)
        x, weights = x[:, :3].contiguous(), x[:, 3:]
        posterior = vae.encode(x).latent_dist
        latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
        y = vae.decode(latents).sample
        l1 = (weights * (x - y).abs()).mean()
        cut = (weights[..., 1:, :], weights[..., 1:])
        edge = torch.stack(
            [(w * (a - b).abs()).mean() for w, a, b in zip(cut, _edges(x), _edges(y), strict=True)]
        ).sum()
        kl = posterior.kl().mean() / latents[0].numel()
        return {"loss": l1 + 0.5 * edge + 1e-4 * kl, "l1": l1, "edge": edge, "kl": kl}

    modules = nn.ModuleDict({"vae": vae})
    steps = settings.vae_steps
    final = fit(
        "vae", modules, loss_of, steps=steps, lr=1.5e-3, work=work, seed=settings.seed, ema=0.99, weight_decay=0.0
    )
    with torch.no_grad():
        rows = random_rows(corpus, 256, torch.Generator().manual_seed(settings.seed))
        latents = vae.encode(pixels_of(corpus, rows) * 2 - 1).latent_dist.mean
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    return final


def reconstruction(vae: AutoencoderKL, corpus: Corpus) -> tuple[np.ndarray, float]:
    """Decoded photos uint8 [n, S, S, 3] of a corpus, and the mean absolute error in [-1, 1] units."""
    parts, errors = [], []
    with torch.no_grad():
        for start in range(0, len(corpus.images), 64):
            x = pixels_of(corpus, torch.arange(start, min(start + 64, len(corpus.images)))) * 2 - 1
            y = vae.decode(vae.encode(x).latent_dist.mean).sample
            errors.append((x - y).abs().mean((1, 2, 3)))
            parts.append(((y.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts), float(torch.cat(errors).mean())
