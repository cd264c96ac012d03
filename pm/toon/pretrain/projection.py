"""The linear map from the base's first text encoder to its vision tower's space: with it, the two are a CLIP again.

The base's folder has text encoder 1 as SDXL has it, without CLIP's projection. This finds one for a finished base:
CLIP's symmetric loss on photos of the training people and their captions, both towers frozen.

    python -m pm.toon.pretrain.projection assets/toon
"""

import argparse
import random
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from pm.files import replace_file
from pm.toon.base import TEXT_PROJECTION
from pm.toon.corpus import Corpus, people_of, render_corpus
from pm.toon.pretrain.fit import fit
from pm.toon.pretrain.stages import CLIP_MEAN, CLIP_STD, pixels_of, tokenize

PHOTOS, PHOTOS_UNSEEN = 4, 2  # of each person
KINDS = ("scene", "full")
STEPS, BATCH, RATE = 1500, 256, 3e-3
_ROWS = 256


def make_projection(base: Path, work: Path, seed: int = 0) -> dict[str, float]:
    """Write `text_projection.safetensors` into the folder of a toon base.

    Args:
        base: the finished base.
        work: folder for the state of the fit.
        seed: of photos, captions and batches.

    Returns:
        The last loss; and of photos and captions of unseen people, the share of photos whose own caption is the nearest
        one of 64.
    """
    vision = CLIPVisionModelWithProjection.from_pretrained(base / "image_encoder").float().eval()
    text = CLIPTextModel.from_pretrained(base / "text_encoder").float().eval()
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    side = vision.config.image_size

    def embedded(corpus: Corpus, rng: random.Random) -> tuple[Tensor, list[Tensor]]:
        return _pictures(vision, corpus), [_sentences(text, tokenizer, corpus.texts(kind, rng)) for kind in KINDS]

    seen = render_corpus(people_of("train"), PHOTOS, seed, side)
    pictures, captions = embedded(seen, random.Random(seed))
    width, count = pictures.shape[1], len(pictures)
    torch.manual_seed(seed)
    projection = nn.Linear(captions[0].shape[1], width, bias=False)
    head = nn.ModuleDict({"text_projection": projection})
    scale = nn.Parameter(torch.tensor(3.0))
    head.register_parameter("logit_scale", scale)

    def loss_of(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        rows = torch.randint(count, (BATCH,), generator=generator)
        mapped = F.normalize(projection(captions[step % len(KINDS)][rows]), dim=-1)
        logits = scale.exp() * mapped @ pictures[rows].T
        # Equal vectors are equally right, in both directions.
        same = ((captions[step % len(KINDS)][rows] @ captions[step % len(KINDS)][rows].T) > 0.99999).float()
        target = same / same.sum(1, keepdim=True)
        return {"loss": (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2}

    report = fit("projection", head, loss_of, steps=STEPS, lr=RATE, work=work, seed=seed)
    matrix = projection.weight.detach()
    with replace_file(base / TEXT_PROJECTION, mode=0o644) as temporary:
        save_file({"text_projection.weight": matrix.half().contiguous()}, temporary)
    unseen = render_corpus(people_of("eval"), PHOTOS_UNSEEN, seed + 1, side)
    pictures, captions = embedded(unseen, random.Random(seed + 1))
    for kind, sentences in zip(KINDS, captions, strict=True):
        report[f"nearest_of_64_{kind}"] = _nearest(pictures, F.normalize(sentences @ matrix.T, dim=-1))
    return report


@torch.no_grad()
def _pictures(vision: CLIPVisionModelWithProjection, corpus: Corpus) -> Tensor:
    rows = torch.arange(len(corpus.images)).split(_ROWS)
    found = [vision(pixel_values=(pixels_of(corpus, part) - CLIP_MEAN) / CLIP_STD).image_embeds for part in rows]
    return F.normalize(torch.cat(found), dim=-1)


@torch.no_grad()
def _sentences(text: CLIPTextModel, tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    tokens = tokenize(tokenizer, captions)
    # Nothing after the longest caption's end is looked at.
    tokens = tokens[:, : int((tokens != tokenizer.pad_token_id).sum(1).max()) + 2]
    found = torch.cat([text(input_ids=part).pooler_output for part in tokens.split(_ROWS)])
    return F.normalize(found, dim=-1)


def _nearest(pictures: Tensor, sentences: Tensor, among: int = 64) -> float:
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0))
    groups = order[: len(order) // among * among].view(-1, among)
    hits = [(pictures[rows] @ sentences[rows].T).argmax(1) == torch.arange(among) for rows in groups]
    return float(torch.cat(hits).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        print(make_projection(options.base, Path(work)))


if __name__ == "__main__":
    main()
