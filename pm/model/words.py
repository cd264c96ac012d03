"""Learned words: tokens that the text encoders are given by their input embeddings (Gal et al. 2023, section 3).

Neither tokenizers nor encoders are changed: a learned token has a negative id, which the tokenizers never use, and is
looked up in a table that belongs to the call. So each row of a batch can have words of its own.

Shapes: B texts, L tokens, K tokens of a word, W_i width of the input embeddings of encoder i.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pm.errors import RequestError
from pm.model.base import BaseModel
from pm.model.prompt import text_ids, tokenize
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


class WordTable:
    """The learned words of one call: row j of the tables is token -1 - j."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}  # of a word's first row
        self._used: list[LearnedWord] = []

    def ids(self, word: LearnedWord) -> list[int]:
        """Its token ids; it gets its rows when it is first asked for."""
        if id(word) not in self._places:
            self._places[id(word)] = sum(w.tokens for w in self._used)
            self._used.append(word)
        first = self._places[id(word)]
        return [-1 - (first + k) for k in range(word.tokens)]

    @property
    def tables(self) -> tuple[Tensor, ...]:
        """[J, W_i] for each text encoder; () where no word was asked for."""
        columns = zip(*(word.embeddings for word in self._used), strict=True)
        return tuple(torch.cat(list(column)) for column in columns)


def tokenize_words(
    tokenizers: Sequence[Any], texts: Sequence[str], words: Sequence[Words]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Token ids of texts, each with its own words; cut where they do not fit.

    Returns:
        ids of every tokenizer, [B, L] int64, -1 - j for row j of the table; and the tables, [J, W_i].
    """
    ids, table = tokenize(tokenizers, texts), WordTable()
    for row, (text, mine) in enumerate(zip(texts, words, strict=True)):
        pieces = split_words(text, mine)
        if len(pieces) > 1:
            for tokenizer, found in zip(tokenizers, ids, strict=True):
                found[row] = _ids(tokenizer, pieces, mine, table)
    return ids, table.tables


def with_table(base: BaseModel, table: WordTable) -> BaseModel:
    """The base with text encoders that also read a table's words; the base itself where it has none."""
    tables = table.tables
    if not tables:
        return base
    encoders = [with_learned(e, rows) for e, rows in zip(_encoders(base), tables, strict=True)]
    return replace(base, text_encoders=tuple(encoders))


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


def split_words(text: str, words: Words) -> list[str]:
    """The text cut before and after every learned word."""
    if not words:
        return [text]
    return re.split(f"({'|'.join(re.escape(word) for word in words)})", text)


def _ids(tokenizer: Any, pieces: Sequence[str], words: Words, table: WordTable) -> Tensor:
    """One text's token ids [L], padded and truncated as the tokenizer does it."""
    found: list[int] = []
    for piece in pieces:
        found += table.ids(words[piece]) if piece in words else text_ids(tokenizer, piece)
    length = tokenizer.model_max_length
    found = [tokenizer.bos_token_id, *found[: length - 2], tokenizer.eos_token_id]
    return torch.tensor(found + [tokenizer.pad_token_id] * (length - len(found)))
