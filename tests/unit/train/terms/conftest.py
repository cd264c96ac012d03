"""A small PhotoMaker on the tiny base, and batches for it."""

import copy
import dataclasses

import pytest
import torch

from pm.data.loading.batches import Batch
from pm.model.base import encode_text, load_base
from pm.model.compose.stacked import Stacked
from pm.model.config import AdapterConfig
from pm.model.photomaker import PhotoMaker
from pm.model.prompt import class_token_index, mark, tokenize
from pm.toon.recogniser import Recogniser, save_recogniser

CAPTIONS, WORDS = ("a man in a red shirt", "a photo of a woman with glasses", "a man, smiling"), ("man", "woman", "man")
COUNTS = (2, 1, 4)


@pytest.fixture(scope="session")
def _built(tiny_base):
    torch.manual_seed(0)
    config = AdapterConfig(
        compose=Stacked("stacked"), merge="insert", lora_rank=4, lora_targets=("to_q", "to_k", "to_v", "to_out.0"),
        train_layers=1, max_id_images=4, trigger_word="img", gradient_checkpointing=False,
    )  # fmt: skip
    return PhotoMaker(load_base(tiny_base), config)


@pytest.fixture
def model(_built):
    """With a LoRA that changes something."""
    own = copy.deepcopy(_built)
    with torch.no_grad():
        for parameter in own.parameter_groups()["lora"]:
            parameter.copy_(torch.randn_like(parameter) * 0.1)
    return own.train()


@pytest.fixture
def batch(_built):
    base, generator = _built.base, torch.Generator().manual_seed(1)
    text = encode_text(base, tokenize(base.tokenizers, CAPTIONS))
    index = [class_token_index(base.tokenizers[0], mark(c, w)) for c, w in zip(CAPTIONS, WORDS, strict=True)]
    mask = torch.zeros(3, 1, 8, 8)
    mask[:, :, 2:, 2:6] = 1
    return Batch(
        mean=torch.randn(3, 4, 8, 8, generator=generator),
        logvar=torch.full((3, 4, 8, 8), -8.0),
        mask=mask,
        embeds=text.embeds,
        pooled=text.pooled,
        time_ids=torch.tensor([base.family.time_ids((32, 32), (0, 0), (32, 32))]).repeat(3, 1),
        class_index=torch.tensor(index),
        captions=list(CAPTIONS),
        class_words=list(WORDS),
        id_pixels=torch.randn(sum(COUNTS), 3, _built.image_size, _built.image_size, generator=generator),
        id_counts=torch.tensor(COUNTS),
        drop_text=torch.tensor([False, True, False]),
        use_mask=torch.tensor([False, False, True]),
        seeds=torch.tensor([3, 4, 7]),
    )


@pytest.fixture(scope="session")
def row_of():
    """One row of a batch, as a batch of its own."""

    def pick(batch, row):
        start = int(batch.id_counts[:row].sum())
        own = {"id_pixels": batch.id_pixels[start : start + int(batch.id_counts[row])]}
        for field in dataclasses.fields(batch):
            value = getattr(batch, field.name)
            if field.name not in own and isinstance(value, torch.Tensor | list):
                own[field.name] = value[row : row + 1]
        return dataclasses.replace(batch, **own)

    return pick


@pytest.fixture(scope="session")
def recogniser(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("recogniser") / "recogniser.safetensors"
    save_recogniser(Recogniser(), path)
    return path
