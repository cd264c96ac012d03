"""Small adapters on the tiny base, and a batch to feed them."""

import copy
import functools
from types import SimpleNamespace

import pytest
import torch

from pm.config import from_mapping
from pm.model.base import encode_text, load_base
from pm.model.compose.base import ComposeChoice
from pm.model.config import AdapterConfig
from pm.model.photomaker import PhotoMaker
from pm.model.prompt import class_token_index, mark, tokenize

CAPTIONS = ("a man in a red shirt", "a photo of a woman with glasses", "portrait of a man on a blue background")


@pytest.fixture(scope="session")
def make_photomaker(tiny_base, tiny_sd15):
    """A PhotoMaker on a tiny base of its own; `lively` moves LoRA off its zero start. A copy of one built once."""
    paths, built = {"sdxl": tiny_base, "sd15": tiny_sd15}, {}
    load = functools.cache(lambda family: load_base(paths[family]))

    def make(merge="insert", compose="stacked", lively=True, family="sdxl", **changes) -> PhotoMaker:
        torch.manual_seed(0)
        key = (merge, str(compose), lively, family, *sorted(changes.items()))
        if key not in built:
            built[key] = build(merge, compose, lively, load(family), changes)
        return copy.deepcopy(built[key])

    def build(merge, compose, lively, base, changes) -> PhotoMaker:
        settings = {
            "compose": from_mapping(ComposeChoice, compose),
            "merge": merge,
            "lora_rank": 4,
            "lora_targets": ("to_q", "to_k", "to_v", "to_out.0"),
            "train_layers": 1,
            "max_id_images": 4,
            "trigger_word": "img",
            "gradient_checkpointing": False,
        }
        photomaker = PhotoMaker(copy.deepcopy(base), AdapterConfig(**settings | changes))
        if lively:
            with torch.no_grad():
                for parameter in photomaker.parameter_groups()["lora"]:
                    parameter.copy_(torch.randn_like(parameter) * 0.1)
        return photomaker.eval()

    return make


@pytest.fixture
def make_batch():
    """A training batch of three rows with 2, 1 and 4 reference photos."""

    def make(photomaker: PhotoMaker, counts=(2, 1, 4), drop=(False, False, False)) -> SimpleNamespace:
        base, generator = photomaker.base, torch.Generator().manual_seed(1)
        ids = tokenize(base.tokenizers, CAPTIONS)
        text = encode_text(base, ids)
        words = ("man", "woman", "man")
        index = [class_token_index(base.tokenizers[0], mark(c, w)) for c, w in zip(CAPTIONS, words, strict=True)]
        size = photomaker.image_size
        return SimpleNamespace(
            embeds=text.embeds,
            pooled=text.pooled,
            text=text,
            captions=list(CAPTIONS),
            class_index=torch.tensor(index),
            id_pixels=torch.randn(sum(counts), 3, size, size, generator=generator),
            id_counts=torch.tensor(counts),
            time_ids=torch.tensor([base.family.time_ids((32, 32), (0, 0), (32, 32))]).repeat(3, 1),
            drop_text=torch.tensor(drop),
            noisy=torch.randn(3, 4, 8, 8, generator=generator),
            timesteps=torch.tensor([10, 400, 900]),
        )

    return make


@pytest.fixture
def row_of():
    """One row of a batch, as a batch of its own."""

    def pick(batch: SimpleNamespace, row: int) -> SimpleNamespace:
        start = int(batch.id_counts[:row].sum())
        images = batch.id_pixels[start : start + int(batch.id_counts[row])]
        rest = {k: v[row : row + 1] for k, v in vars(batch).items() if k not in ("id_pixels", "text")}
        return SimpleNamespace(**rest, id_pixels=images, text=batch.text.rows(slice(row, row + 1)))

    return pick
