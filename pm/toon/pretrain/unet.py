"""The denoiser's two stages: to draw what words say, then to draw a person whom a single token describes."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pm.toon.base import ToonParts, scheduler
from pm.toon.corpus import Corpus
from pm.toon.pretrain.fit import fit
from pm.toon.pretrain.stages import Settings, face_weights, pixels_of, random_rows, tokenize


@torch.no_grad()
def encode_corpus(vae: Any, corpus: Corpus) -> Tensor:
    """Scaled latents [n, C, h, w] of all photos (posterior means)."""
    parts = []
    for start in range(0, len(corpus.images), 64):
        rows = torch.arange(start, min(start + 64, len(corpus.images)))
        parts.append(vae.encode(pixels_of(corpus, rows) * 2 - 1).latent_dist.mean)
    return torch.cat(parts) * vae.config.scaling_factor


class Captions:
    """Tokens of every photo's captions for both encoders, and their features.

    Kinds: 0 says what varies, 1 also who it is, 2 is caption 0 with the class word's vector taken from a sentence that
    describes the person before the class word: who it is stands in one token, as PhotoMaker's identity tokens do.
    """

    def __init__(self, parts: ToonParts, corpus: Corpus, settings: Settings, *, forget: bool = True):
        """`forget`: leave out traits, as `settings` say; else all that can be seen is described."""
        rng, omit, share = random.Random(settings.seed + 1), settings.omit / 100, settings.forget / 100
        texts = [
            corpus.texts(kind, rng, omit=omit, forget=share if forget else 0.0) for kind in ("scene", "full", "before")
        ]
        self.tokens = [torch.stack([tokenize(t, kind) for kind in texts]) for t in parts.tokenizers]
        words = {w: parts.tokenizers[0](w).input_ids[1] for w in {p.class_word for p in corpus.people}}
        self.words = torch.tensor([words[p.class_word] for p in corpus.people])
        self.text_model = parts.clip.text_model.eval().requires_grad_(False)
        self.encoder_2 = parts.text_encoder_2

    def features(self, rows: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
        """Photos `rows` [B] with captions of `kind` [B] -> embeds [B, L, D], pooled [B, P]."""
        embeds, pooled = self._encode(kind.remainder(2), rows)
        if (kind < 2).all():
            return embeds, pooled
        place = (self.tokens[0][0, rows] == self.words[rows, None]).unsqueeze(-1)
        person = self.class_word(rows, described=True).unsqueeze(1)
        return torch.where(place & (kind == 2)[:, None, None], person, embeds), pooled

    def class_word(self, rows: Tensor, *, described: bool) -> Tensor:
        """The class word's vector [B, D] in caption 0, or after a sentence that describes the person."""
        kind = 2 if described else 0
        embeds, _ = self._encode(torch.full_like(rows, kind), rows)
        first = (self.tokens[0][kind, rows] == self.words[rows, None]).int().argmax(1)
        return embeds[torch.arange(len(rows)), first]

    def _encode(self, kind: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            one = self.text_model(self.tokens[0][kind, rows], output_hidden_states=True).hidden_states[-2]
        two = self.encoder_2(self.tokens[1][kind, rows], output_hidden_states=True)
        return torch.cat([one, two.hidden_states[-2]], -1), two.text_embeds


def train_unet(parts: ToonParts, corpus: Corpus, settings: Settings, work: Path) -> dict[str, dict]:
    """Denoising (epsilon, min-SNR-5 weights) of the U-Net together with text encoder 2; text encoder 1 stays CLIP's.

    Stage `unet`: half of the captions also describe the person. Stage `token`: half of them do so in the class word's
    token alone, a quarter in words. One caption in ten is null text (zeros, as SDXL does).

    Returns:
        the last losses of both stages.
    """
    latents, captions = encode_corpus(parts.vae, corpus), Captions(parts, corpus, settings)
    alphas, side = scheduler().alphas_cumprod, corpus.images.shape[1]
    unet: Any = parts.unet  # torch declares no `to` with a memory format
    unet.to(memory_format=torch.channels_last)

    def loss_of(kinds: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:
        rows = random_rows(corpus, settings.unet_batch, generator)
        kind = torch.tensor(kinds)[torch.randint(len(kinds), (len(rows),), generator=generator)]
        embeds, pooled = captions.features(rows, kind)
        keep = (torch.rand(len(rows), generator=generator) >= 0.1).float()
        t = torch.randint(len(alphas), (len(rows),), generator=generator)
        a = alphas[t].view(-1, 1, 1, 1)
        x, noise = latents[rows], torch.randn(latents[rows].shape, generator=generator)
        noisy = (a.sqrt() * x + (1 - a).sqrt() * noise).to(memory_format=torch.channels_last)
        added = {
            "text_embeds": pooled * keep[:, None],
            "time_ids": torch.tensor([[side, side, 0, 0, side, side]]).float().expand(len(rows), 6),
        }
        with torch.autocast("cpu", torch.bfloat16):  # where the CPU has it, a third faster; weights stay fp32
            predicted = unet(noisy, t, embeds * keep[:, None, None], added_cond_kwargs=added).sample
        error = (predicted.float() - noise).square()
        error = error * face_weights(corpus, rows, settings.face_weight, x.shape[-1])
        error, snr = error.mean((1, 2, 3)), (a / (1 - a)).flatten()
        return {"loss": (error * snr.clamp(max=5) / snr).mean(), "mse": error.mean()}

    def on_kinds(kinds: tuple[int, ...]) -> Callable[[int, torch.Generator], dict[str, Tensor]]:
        return lambda step, generator: loss_of(kinds, generator)

    modules, final = nn.ModuleDict({"unet": unet, "text_encoder_2": parts.text_encoder_2}), {}
    stages = (
        ("unet", (0, 1), settings.unet_steps, 8e-4, 0.998),
        ("token", (0, 1, 2, 2), settings.token_steps, 6e-4, 0.99),
    )
    for name, kinds, steps, lr, ema in stages:
        final[name] = fit(
            name,
            modules,
            on_kinds(kinds),
            steps=steps,
            lr=lr,
            work=work,
            seed=settings.seed,
            ema=ema,
        )
    return final
