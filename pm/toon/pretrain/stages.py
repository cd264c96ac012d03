"""What the stages of pre-training share: settings, batches of photos; and the probe, the first of them."""

import dataclasses
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTokenizer

from pm.toon.attributes import ATTRIBUTES
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
    occlusion: int = 12  # percent of photos with each cover, and of tight crops
    omit: int = 35  # percent of captions that leave each thing which varies unsaid
    forget: int = 30  # percent of descriptions of people that leave out traits
    face_weight: int = 4  # of pixels and latents in the face's box, others 1
    probe_photos_each: int = 15
    probe_steps: int = 7000
    probe_batch: int = 64
    vae_steps: int = 4000
    vae_batch: int = 32
    vae_crop: int = 32
    clip_steps: int = 3000
    clip_batch: int = 96
    unet_steps: int = 5000
    token_steps: int = 1000
    unet_batch: int = 32
    align_steps: int = 1500
    align_batch: int = 64


def pixels_of(corpus: Corpus, rows: Tensor) -> Tensor:
    """uint8 photos → float [B, 3, S, S] in [0, 1]."""
    return torch.from_numpy(corpus.images[rows.numpy()]).permute(0, 3, 1, 2).float() / 255


def face_weights(corpus: Corpus, rows: Tensor, weight: float, side: int) -> Tensor:
    """Weights [B, 1, side, side] of mean 1 over each photo: `weight` times as much in the face's box as around it.

    What tells people apart at this size, eyebrows first, is a few pixels of the face.
    """
    boxes = torch.from_numpy(corpus.boxes[rows.numpy()]) * side / corpus.images.shape[1]
    place = torch.arange(side) + 0.5
    across = (place >= boxes[:, :1]) & (place <= boxes[:, 2:3])
    down = (place >= boxes[:, 1:2]) & (place <= boxes[:, 3:4])
    weights = 1 + (weight - 1) * (down.unsqueeze(2) & across.unsqueeze(1)).float().unsqueeze(1)
    return weights / weights.mean((2, 3), keepdim=True)


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


def random_crops(x: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """A `side` x `side` window of every photo, each at its own place."""
    corners = torch.randint(x.shape[-1] - side + 1, (len(x), 2), generator=generator).tolist()
    return torch.stack([img[:, i : i + side, j : j + side] for img, (i, j) in zip(x, corners, strict=True)])


def train_probe(corpus: Corpus, settings: Settings, work: Path) -> tuple[Probe, dict]:
    """Cross-entropy on every visible attribute, on photos shifted by a few pixels."""
    torch.manual_seed(settings.seed)
    probe, side = Probe(), corpus.images.shape[1]
    labels = torch.from_numpy(corpus.labels)
    # Eyebrows are a few pixels and are learnt last.
    weights = torch.tensor([4.0 if name == "eyebrows" else 1.0 for name in ATTRIBUTES])

    def loss_of(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        rows = random_rows(corpus, settings.probe_batch, generator)
        shifted = random_crops(F.pad(pixels_of(corpus, rows), [3] * 4, mode="replicate"), side, generator)
        logits = probe(_degrade(shifted, generator))
        losses = [F.cross_entropy(logits[k], labels[rows, i], ignore_index=HIDDEN) for i, k in enumerate(ATTRIBUTES)]
        return {
            "loss": (torch.stack(losses) * weights).sum() / weights.sum(),
            "eyebrows": losses[list(ATTRIBUTES).index("eyebrows")],
        }

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


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
