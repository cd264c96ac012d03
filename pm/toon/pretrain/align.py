"""The id encoder's first weights: tokens that say in one vector what a sentence would say about the person.

A diffusion loss alone teaches the toon id encoder little in an hour of a laptop. SDXL needs no such stage as much: the
vision tower of its adapter and its first text encoder are two halves of one CLIP.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from pm.model.adapter import adapter_state, meta_of
from pm.model.adapter_file import save_adapter
from pm.model.base import load_base
from pm.model.compose.stacked import Stacked
from pm.model.config import AdapterConfig
from pm.model.photomaker import PhotoMaker
from pm.toon.base import ToonParts
from pm.toon.corpus import Corpus
from pm.toon.pretrain.fit import fit
from pm.toon.pretrain.gates import identity_labels, readable
from pm.toon.pretrain.stages import CLIP_MEAN, CLIP_STD, Settings, noisy_surroundings, pixels_of, random_rows
from pm.toon.pretrain.unet import Captions

CONFIG = AdapterConfig(
    compose=Stacked("stacked"),
    merge="insert",
    lora_rank=16,
    lora_targets=("to_q", "to_k", "to_v", "to_out.0"),
    train_layers=1_000,
    max_id_images=4,
    trigger_word="img",
    gradient_checkpointing=False,
)


def train_id_encoder(
    parts: ToonParts, corpus: Corpus, unseen: Corpus, settings: Settings, base: Path, work: Path
) -> tuple[dict[str, float], dict[str, float]]:
    """Regress the fused token of one photo on the class word's vector of a sentence that describes the person, as far
    as the photo shows them.

    Args:
        base: the finished base's folder; `adapter_aligned.safetensors` is written there, its LoRA doing nothing yet.

    Returns:
        the last losses, in which `unexplained` is the squared error over the targets' variance; and what a linear
        classifier reads from the tokens of people in `unseen` (`gates.readable`).
    """
    torch.manual_seed(settings.seed)
    photomaker = PhotoMaker(load_base(str(base), ("unet",)), CONFIG)
    encoder, captions = photomaker.id_encoder, Captions(parts, corpus, settings, forget=False)
    parts.text_encoder_2.eval().requires_grad_(False)
    count = len(corpus.people)
    wanted = _in_parts(captions, torch.arange(count), described=True)
    plain = _in_parts(captions, torch.arange(count), described=False)
    variance = wanted.var(0).mean()

    def loss_of(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        rows = random_rows(corpus, settings.align_batch, generator)
        pixels = noisy_surroundings(corpus, rows, pixels_of(corpus, rows), generator)
        tokens = encoder((pixels - CLIP_MEAN) / CLIP_STD, torch.ones_like(rows), plain[rows])
        loss = (tokens - wanted[rows]).square().mean()
        return {"loss": loss, "unexplained": loss / variance}

    modules = nn.ModuleDict({"id_encoder": encoder})
    final = fit("align", modules, loss_of, steps=settings.align_steps, lr=1e-3, work=work, seed=settings.seed, ema=0.99)
    meta = meta_of(photomaker, crop_mode="face+mask", project_version="0", run="align")
    save_adapter(base / "adapter_aligned.safetensors", adapter_state(photomaker), meta)
    plain_unseen = _in_parts(Captions(parts, unseen, settings), torch.arange(len(unseen.people)), described=False)
    tokens = [_tokens(encoder, photos, words) for photos, words in ((corpus, plain), (unseen, plain_unseen))]
    return final, readable(tokens[0], identity_labels(corpus), tokens[1], identity_labels(unseen))


@torch.no_grad()
def _tokens(encoder: nn.Module, corpus: Corpus, plain: Tensor) -> Tensor:
    found = []
    for rows in torch.arange(len(plain)).split(256):
        pixels = noisy_surroundings(corpus, rows, pixels_of(corpus, rows), torch.Generator().manual_seed(0))
        found.append(encoder((pixels - CLIP_MEAN) / CLIP_STD, torch.ones_like(rows), plain[rows]))
    return torch.cat(found)


@torch.no_grad()
def _in_parts(captions: Captions, rows: Tensor, *, described: bool) -> Tensor:
    return torch.cat([captions.class_word(part, described=described) for part in rows.split(256)])
