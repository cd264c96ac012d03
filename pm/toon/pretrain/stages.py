"""What each part of the toon base is trained to do: one function a part, all driven by `fit`."""

import dataclasses
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTokenizer

from pm.toon.attributes import ATTRIBUTES
from pm.toon.base import ToonParts
from pm.toon.corpus import HIDDEN, Corpus
from pm.toon.pretrain.fit import fit
from pm.toon.probe import Probe

CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that decides the result of pre-training; recorded beside the weights."""

    seed: int = 0
    photos_each: int = 6
    probe_photos_each: int = 15
    probe_steps: int = 3000
    probe_batch: int = 64
    vae_steps: int = 3000
    vae_batch: int = 32
    vae_crop: int = 32
    clip_steps: int = 1300
    clip_batch: int = 96
    unet_steps: int = 3600
    token_steps: int = 800
    unet_batch: int = 32
    align_steps: int = 700
    align_batch: int = 64


def pixels_of(corpus: Corpus, rows: Tensor) -> Tensor:
    """uint8 photos → float [B, 3, S, S] in [0, 1]."""
    return torch.from_numpy(corpus.images[rows.numpy()]).permute(0, 3, 1, 2).float() / 255


def random_rows(corpus: Corpus, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(len(corpus.images), (count,), generator=generator)


def noisy_surroundings(corpus: Corpus, rows: Tensor, pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Noise outside the person, as in ID images (paper section 3.3); floats [B, 3, S, S] in [0, 1]."""
    mask = torch.from_numpy(corpus.masks[rows.numpy()] > 127).unsqueeze(1)
    return torch.where(mask, pixels, torch.rand(pixels.shape, generator=generator))


def _degrade(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Soften some of the photos and add a little noise, so that the probe also reads decoded latents."""
    small = F.interpolate(pixels, scale_factor=0.75, mode="bilinear", antialias=True)
    soft = F.interpolate(small, pixels.shape[-2:], mode="bilinear")
    amount = torch.rand(2, len(pixels), 1, 1, 1, generator=generator)
    pixels = pixels + amount[0] * (amount[1] < 0.3) * (soft - pixels)
    noise = torch.randn(pixels.shape, generator=generator) * 0.03 * amount[1]
    tint = 1 + 0.03 * torch.randn(len(pixels), 3, 1, 1, generator=generator)
    return (pixels * tint + noise).clamp(0, 1)


def _random_crops(x: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """A `side` x `side` window of every photo, each at its own place."""
    corners = torch.randint(x.shape[-1] - side + 1, (len(x), 2), generator=generator).tolist()
    return torch.stack([img[:, i : i + side, j : j + side] for img, (i, j) in zip(x, corners, strict=True)])


def train_probe(corpus: Corpus, settings: Settings, work: Path) -> tuple[Probe, dict]:
    """Cross-entropy on every visible attribute, on photos shifted by a few pixels."""
    torch.manual_seed(settings.seed)
    probe, side = Probe(), corpus.images.shape[1]
    labels = torch.from_numpy(corpus.labels)

    def loss_of(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        rows = random_rows(corpus, settings.probe_batch, generator)
        shifted = _random_crops(F.pad(pixels_of(corpus, rows), [3] * 4, mode="replicate"), side, generator)
        logits = probe(_degrade(shifted, generator))
        losses = [F.cross_entropy(logits[k], labels[rows, i], ignore_index=HIDDEN) for i, k in enumerate(ATTRIBUTES)]
        return {"loss": torch.stack(losses).mean()}

    modules = nn.ModuleDict({"probe": probe})
    final = fit("probe", modules, loss_of, steps=settings.probe_steps, lr=2e-3, work=work, seed=settings.seed, ema=0.99)
    return probe, final


def probe_accuracy(probe: Probe, corpus: Corpus) -> dict[str, float]:
    """Share of visible attributes read rightly, per attribute."""
    probabilities = probe.probabilities(corpus.images)
    result = {}
    for i, name in enumerate(ATTRIBUTES):
        seen = corpus.labels[:, i] != HIDDEN
        result[name] = float((probabilities[name].argmax(-1) == corpus.labels[:, i])[seen].mean())
    return result


def _edges(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]


def train_vae(vae: AutoencoderKL, corpus: Corpus, settings: Settings, work: Path) -> dict:
    """L1 on pixels and on edges plus a small KL term, on random crops; sets the latents' scaling factor."""
    crop = settings.vae_crop

    def loss_of(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        # The last fifth sees whole photos: group norm's statistics differ between crops and photos.
        whole = step >= settings.vae_steps * 0.8
        count = settings.vae_batch // 4 if whole else settings.vae_batch
        x = pixels_of(corpus, random_rows(corpus, count, generator)) * 2 - 1
        if not whole:
            x = _random_crops(x, crop, generator)
        posterior = vae.encode(x).latent_dist
        latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
        y = vae.decode(latents).sample
        l1 = (x - y).abs().mean()
        edge = sum((a - b).abs().mean() for a, b in zip(_edges(x), _edges(y), strict=True))
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


def train_clip(parts: ToonParts, corpus: Corpus, settings: Settings, work: Path) -> dict:
    """Contrastive pre-training of the vision tower and text encoder 1 (CLIP's symmetric loss).

    Captions alternate between who, what varies, and both, so that neither drowns the other; half of the photos have
    their surroundings replaced by noise, as PhotoMaker's ID images do, and can then be matched by the person only.
    """
    clip, tokenizer = parts.clip, parts.tokenizers[0]
    rng = random.Random(settings.seed)
    tokens = {kind: tokenize(tokenizer, corpus.texts(kind, rng)) for kind in ("person", "scene", "full")}

    def loss_of(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        rows = random_rows(corpus, settings.clip_batch, generator)
        kind = ("person", "scene", "person", "full")[step % 4]
        pixels = pixels_of(corpus, rows)
        if kind == "person":
            pixels = noisy_surroundings(corpus, rows, pixels, generator)
        ids = tokens[kind][rows]
        ids = ids[:, : int((ids != tokenizer.pad_token_id).sum(1).max()) + 2]
        out = clip(input_ids=ids, pixel_values=(pixels - CLIP_MEAN) / CLIP_STD)
        # People repeat within a batch, so equal captions are equally right.
        same = (tokens[kind][rows][:, None] == tokens[kind][rows][None]).all(-1).float()
        target = same / same.sum(1, keepdim=True)
        loss = (F.cross_entropy(out.logits_per_image, target) + F.cross_entropy(out.logits_per_text, target)) / 2
        hits = same.gather(1, out.logits_per_image.argmax(1, keepdim=True)).mean()
        return {"loss": loss, "top1": hits}

    modules = nn.ModuleDict({"clip": clip})
    return fit("clip", modules, loss_of, steps=settings.clip_steps, lr=1e-3, work=work, seed=settings.seed)


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


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
