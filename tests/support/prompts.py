"""Prompts encoded as sampling encodes them."""

from collections.abc import Sequence

import torch

from pm.model.base import BaseModel
from pm.model.conditioning import TextFeatures
from pm.model.long_text import Written, encode_written
from pm.model.prompt import plain_prompt
from pm.model.words import Words


def encode_prompts(
    base: BaseModel, texts: Sequence[str], words: Sequence[Words] = (), weighting: str = "explicit"
) -> TextFeatures:
    """Text features [B, L, D] of prompts of one length without anybody in them, each with its own learned words."""
    mine = words or [{}] * len(texts)
    written = [Written(plain_prompt(text, weighting), w) for text, w in zip(texts, mine, strict=True)]
    parts = [each.text for each in encode_written(base, written)]
    return TextFeatures(torch.cat([p.embeds for p in parts]), torch.cat([p.pooled for p in parts]))
