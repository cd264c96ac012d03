"""What each part of the toon base is trained to do: one function a part, all driven by `fit`."""

import dataclasses
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from pm.toon.attributes import ATTRIBUTES
from pm.toon.base import ToonParts, scheduler
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
    probe_steps: int = 2000
    probe_batch: int = 64
    vae_steps: int = 3000
    vae_batch: int = 32
    vae_crop: int = 32
    clip_steps: int = 1300
    clip_batch: int = 96
    unet_steps: int = 3000  # length of the learning-rate schedule
    unet_stop: int = 2098  # where training ends; the averaged weights make the schedule's tail unnecessary
    unet_batch: int = 32


def _pixels(corpus: Corpus, rows: Tensor) -> Tensor:
    """uint8 photos → float [B, 3, S, S] in [0, 1]."""
    return torch.from_numpy(corpus.images[rows.numpy()]).permute(0, 3, 1, 2).float() / 255


def _rows(corpus: Corpus, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(len(corpus.images), (count,), generator=generator)


def _degrade(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Soften some of the photos and add a little noise, so that the probe also reads decoded latents."""
    small = F.interpolate(pixels, scale_factor=0.75, mode="bilinear", antialias=True)
    soft = F.interpolate(small, pixels.shape[-2:], mode="bilinear")
    amount = torch.rand(2, len(pixels), 1, 1, 1, generator=generator)
    pixels = pixels + amount[0] * (amount[1] < 0.3) * (soft - pixels)
    noise = torch.randn(pixels.shape, generator=generator) * 0.03 * amount[1]
    tint = 1 + 0.03 * torch.randn(len(pixels), 3, 1, 1, generator=generator)
    return (pixels * tint + noise).clamp(0, 1)


def train_probe(corpus: Corpus, settings: Settings, work: Path) -> tuple[Probe, dict]:
    """Cross-entropy on every visible attribute."""
    torch.manual_seed(settings.seed)
    probe = Probe()
    labels = torch.from_numpy(corpus.labels)

    def loss_of(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        rows = _rows(corpus, settings.probe_batch, generator)
        logits = probe(_degrade(_pixels(corpus, rows), generator))
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
    crop, side = settings.vae_crop, corpus.images.shape[1]

    def loss_of(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        # The last fifth sees whole photos: group norm's statistics differ between crops and photos.
        whole = step >= settings.vae_steps * 0.8
        count = settings.vae_batch // 4 if whole else settings.vae_batch
        x = _pixels(corpus, _rows(corpus, count, generator)) * 2 - 1
        if not whole:
            corners = torch.randint(side - crop + 1, (count, 2), generator=generator).tolist()
            x = torch.stack([img[:, i : i + crop, j : j + crop] for img, (i, j) in zip(x, corners, strict=True)])
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
        rows = _rows(corpus, 256, torch.Generator().manual_seed(settings.seed))
        latents = vae.encode(_pixels(corpus, rows) * 2 - 1).latent_dist.mean
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    return final


def train_clip(parts: ToonParts, corpus: Corpus, settings: Settings, work: Path) -> dict:
    """Contrastive pre-training of the vision tower and text encoder 1 (CLIP's symmetric loss).

    Captions alternate between who, what varies, and both, so that neither drowns the other; half of the photos have
    their surroundings replaced by noise, as PhotoMaker's ID images do, and are then only told by who is on them.
    """
    clip, tokenizer = parts.clip, parts.tokenizers[0]
    rng = random.Random(settings.seed)
    tokens = {kind: _tokenize(tokenizer, corpus.texts(kind, rng)) for kind in ("person", "scene", "full")}

    def loss_of(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        rows = _rows(corpus, settings.clip_batch, generator)
        kind = ("person", "scene", "person", "full")[step % 4]
        pixels = _pixels(corpus, rows)
        if kind == "person":
            mask = torch.from_numpy(corpus.masks[rows.numpy()] > 127).unsqueeze(1)
            pixels = torch.where(mask, pixels, torch.rand(pixels.shape, generator=generator))
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


def _tokenize(tokenizer, texts: list[str]) -> Tensor:
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


@torch.no_grad()
def encode_corpus(vae: AutoencoderKL, corpus: Corpus) -> Tensor:
    """Scaled latents [n, C, h, w] of all photos (posterior means)."""
    parts = []
    for start in range(0, len(corpus.images), 64):
        rows = torch.arange(start, min(start + 64, len(corpus.images)))
        parts.append(vae.encode(_pixels(corpus, rows) * 2 - 1).latent_dist.mean)
    return torch.cat(parts) * vae.config.scaling_factor


def train_unet(parts: ToonParts, corpus: Corpus, settings: Settings, work: Path) -> dict:
    """Denoising (epsilon, min-SNR-5 weights) of the U-Net together with text encoder 2; text encoder 1 stays CLIP's.

    Half of the captions also describe the person; one in ten is null text (zeros, as SDXL does).
    """
    latents, rng = encode_corpus(parts.vae, corpus), random.Random(settings.seed + 1)
    texts = [corpus.texts("scene", rng), corpus.texts("full", rng)]
    tokens = [torch.stack([_tokenize(t, kind) for kind in texts]) for t in parts.tokenizers]
    alphas = scheduler().alphas_cumprod
    side = corpus.images.shape[1]
    unet, encoder_2, text_model = parts.unet, parts.text_encoder_2, parts.clip.text_model.eval().requires_grad_(False)
    unet.to(memory_format=torch.channels_last)

    def loss_of(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        rows = _rows(corpus, settings.unet_batch, generator)
        kind = torch.randint(2, (len(rows),), generator=generator)
        with torch.no_grad():
            one = text_model(tokens[0][kind, rows], output_hidden_states=True).hidden_states[-2]
        two = encoder_2(tokens[1][kind, rows], output_hidden_states=True)
        keep = (torch.rand(len(rows), generator=generator) >= 0.1).float()
        embeds = torch.cat([one, two.hidden_states[-2]], -1) * keep[:, None, None]
        t = torch.randint(len(alphas), (len(rows),), generator=generator)
        a = alphas[t].view(-1, 1, 1, 1)
        x, noise = latents[rows], torch.randn(latents[rows].shape, generator=generator)
        noisy = (a.sqrt() * x + (1 - a).sqrt() * noise).to(memory_format=torch.channels_last)
        added = {
            "text_embeds": two.text_embeds * keep[:, None],
            "time_ids": torch.tensor([[side, side, 0, 0, side, side]]).float().expand(len(rows), 6),
        }
        error = (unet(noisy, t, embeds, added_cond_kwargs=added).sample - noise).square().mean((1, 2, 3))
        snr = (a / (1 - a)).flatten()
        return {"loss": (error * snr.clamp(max=5) / snr).mean(), "mse": error.mean()}

    modules = nn.ModuleDict({"unet": unet, "text_encoder_2": encoder_2})
    steps, stop = settings.unet_steps, settings.unet_stop
    return fit("unet", modules, loss_of, steps=steps, stop=stop, lr=8e-4, work=work, seed=settings.seed, ema=0.998)


def reconstruction(vae: AutoencoderKL, corpus: Corpus) -> tuple[np.ndarray, float]:
    """Decoded photos uint8 [n, S, S, 3] of a corpus, and the mean absolute error in [-1, 1] units."""
    parts, errors = [], []
    with torch.no_grad():
        for start in range(0, len(corpus.images), 64):
            x = _pixels(corpus, torch.arange(start, min(start + 64, len(corpus.images)))) * 2 - 1
            y = vae.decode(vae.encode(x).latent_dist.mean).sample
            errors.append((x - y).abs().mean((1, 2, 3)))
            parts.append(((y.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts), float(torch.cat(errors).mean())
