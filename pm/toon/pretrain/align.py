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


def train_id_encoder(parts: ToonParts, corpus: Corpus, settings: Settings, base: Path, work: Path) -> dict[str, float]:
    """Regress the fused token of one photo on the class word's vector of a sentence that describes the person.

    Args:
        base: the finished base's folder; `adapter_aligned.safetensors` is written there, its LoRA doing nothing yet.

    Returns:
        the last losses; `unexplained` is the squared error over the targets' variance.
    """
    torch.manual_seed(settings.seed)
    photomaker = PhotoMaker(load_base(str(base), ("unet",)), CONFIG)
    encoder, captions = photomaker.id_encoder, Captions(parts, corpus, settings.seed + 1)
    parts.text_encoder_2.eval().requires_grad_(False)
    count = len(corpus.people)
    # One sentence describes all photos of a person; the plain vector differs with the words before it.
    wanted = _in_parts(captions, torch.arange(0, count, settings.photos_each), described=True)
    plain = _in_parts(captions, torch.arange(count), described=False)
    variance = wanted.var(0).mean()

    def loss_of(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        rows = random_rows(corpus, settings.align_batch, generator)
        pixels = noisy_surroundings(corpus, rows, pixels_of(corpus, rows), generator)
        tokens = encoder((pixels - CLIP_MEAN) / CLIP_STD, torch.ones_like(rows), plain[rows])
        loss = (tokens - wanted[rows // settings.photos_each]).square().mean()
        return {"loss": loss, "unexplained": loss / variance}

    modules = nn.ModuleDict({"id_encoder": encoder})
    final = fit("align", modules, loss_of, steps=settings.align_steps, lr=1e-3, work=work, seed=settings.seed, ema=0.99)
    meta = meta_of(photomaker, crop_mode="face+mask", project_version="0", run="align")
    save_adapter(base / "adapter_aligned.safetensors", adapter_state(photomaker), meta)
    return final


@torch.no_grad()
def _in_parts(captions: Captions, rows: Tensor, *, described: bool) -> Tensor:
    return torch.cat([captions.class_word(part, described=described) for part in rows.split(256)])
