"""Learned words: tokens that the text encoders are given by their input embeddings (Gal et al. 2023, section 3).

Neither tokenizers nor encoders are changed: a learned token has a negative id, which the tokenizers never use, and is
looked up in a table that belongs to the call. So each row of a batch can have words of its own.

Shapes: B texts, L tokens, K tokens of a word, W_i width of the input embeddings of encoder i.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pm.errors import RequestError
from pm.model.base import BaseModel, encode_text
from pm.model.conditioning import TextFeatures
from pm.model.prompt import text_ids, token_count, tokenize
from pm.model.shared import shared_copy

_NAME = re.compile(r"<[\w\-]+>")


@dataclass(frozen=True, eq=False)
class LearnedWord:
    """One word: K tokens in a row, for each text encoder of the base."""

    embeddings: tuple[Tensor, ...]  # [K, W_i] each

    @property
    def tokens(self) -> int:
        """K."""
        return self.embeddings[0].shape[0]


Words = Mapping[str, LearnedWord]  # as written in prompts, in angle brackets: "<person>"


def check_words(base: BaseModel, words: Words) -> None:
    """Check names and shapes.

    Raises:
        RequestError: a name without angle brackets, or embeddings of another base.
    """
    widths = tuple(encoder.get_input_embeddings().embedding_dim for encoder in _encoders(base))
    for name, word in words.items():
        if not _NAME.fullmatch(name):
            raise RequestError(f"learned word {name!r} must be letters and digits in angle brackets, such as <person>")
        found = tuple(tuple(e.shape) for e in word.embeddings)
        if found != tuple((word.tokens, width) for width in widths):
            raise RequestError(
                f"learned word {name} has embeddings {list(found)}, the text encoders of {base.path} take widths "
                f"{list(widths)}; learn it on this base"
            )


def count_tokens(tokenizer: Any, text: str, words: Words) -> int:
    """Tokens of `text`, start and end tokens included, before any truncation."""
    if not words:
        return token_count(tokenizer, text)
    return 2 + sum(words[p].tokens if p in words else len(text_ids(tokenizer, p)) for p in _pieces(text, words))


def tokenize_words(
    tokenizers: Sequence[Any], texts: Sequence[str], words: Sequence[Words]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Token ids of texts, each with its own words.

    Returns:
        ids of every tokenizer, [B, L] int64, -1 - j for row j of the table; and the tables, [J, W_i].
    """
    ids = tokenize(tokenizers, texts)
    places: dict[int, int] = {}  # of a word's first row in the tables
    used: list[LearnedWord] = []
    for row, (text, mine) in enumerate(zip(texts, words, strict=True)):
        pieces = _pieces(text, mine)
        for word in (mine[p] for p in pieces if p in mine):
            if id(word) not in places:
                places[id(word)] = sum(w.tokens for w in used)
                used.append(word)
        if len(pieces) > 1:
            for tokenizer, found in zip(tokenizers, ids, strict=True):
                found[row] = _ids(tokenizer, pieces, mine, places)
    columns = zip(*(word.embeddings for word in used), strict=True)
    return ids, tuple(torch.cat(list(column)) for column in columns)


def encode_prompts(
    base: BaseModel, texts: Sequence[str], words: Sequence[Words] = (), clip_skip: Sequence[int] | None = None
) -> TextFeatures:
    """Text features of prompts, each with its own learned words; with gradients to those that have them.

    Args:
        texts: B prompts.
        words: for each of them; (): none has any.
        clip_skip: for each of them; as in `Family.encode`.
    """
    if not any(words):
        return encode_text(base, tokenize(base.tokenizers, texts), clip_skip)
    ids, tables = tokenize_words(base.tokenizers, texts, words)
    if not tables:
        return encode_text(base, ids, clip_skip)
    encoders = [with_learned(e, table) for e, table in zip(_encoders(base), tables, strict=True)]
    return base.family.encode(encoders, ids, *([clip_skip] if any(clip_skip or ()) else []))


def with_learned(encoder: Any, table: Tensor) -> Any:
    """A text encoder on the same weights that also reads learned tokens: id -1 - j is row j of `table` [J, W]."""
    copied: Any = shared_copy(encoder)
    copied.set_input_embeddings(_Extended(encoder.get_input_embeddings(), table))
    return copied


class _Extended(nn.Module):
    """Token embeddings, and learned ones under negative ids."""

    def __init__(self, own: nn.Embedding, table: Tensor):
        super().__init__()
        self.own, self.table = own, table

    def forward(self, ids: Tensor) -> Tensor:
        known = self.own(ids.clamp_min(0))
        learned = self.table.to(known)[(-1 - ids).clamp_min(0)]
        return torch.where((ids < 0).unsqueeze(-1), learned, known)


def _encoders(base: BaseModel) -> Sequence[Any]:
    if base.text_encoders is None:
        raise RequestError(f"base {base.path} was loaded without its text encoders; load it with parts=('text', ...)")
    return base.text_encoders


def _pieces(text: str, words: Words) -> list[str]:
    """The text cut before and after every learned word."""
    if not words:
        return [text]
    return re.split(f"({'|'.join(re.escape(word) for word in words)})", text)


def _ids(tokenizer: Any, pieces: Sequence[str], words: Words, places: Mapping[int, int]) -> Tensor:
    """One text's token ids [L], padded and truncated as the tokenizer does it."""
    found: list[int] = []
    for piece in pieces:
        if piece in words:
            word = words[piece]
            found += [-1 - (places[id(word)] + k) for k in range(word.tokens)]
        else:
            found += text_ids(tokenizer, piece)
    length = tokenizer.model_max_length
    found = [tokenizer.bos_token_id, *found[: length - 2], tokenizer.eos_token_id]
    return torch.tensor(found + [tokenizer.pad_token_id] * (length - len(found)))
