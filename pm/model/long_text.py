"""Text features of prompts of any length, with weights and learned words.

CLIP's text encoders see L tokens (77). A longer prompt is cut into chunks of L - 2, each encoded on its own between a
start and an end token, and the features are put one after another, as AUTOMATIC1111's web UI, ComfyUI and compel do.
The pooled feature is that of the first chunk. A prompt that fits is encoded as it always was.

A weight w moves a token's feature along the line from the same place of the encoded empty text z0 through the feature z
itself: z0 + w (z - z0), ComfyUI's rule and compel's for weights of 1 and more. Start, end and padding have weight 1.

Shapes: B prompts, K chunks of a prompt, L tokens of a chunk, D text width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pm.errors import RequestError
from pm.model.base import BaseModel, encode_text
from pm.model.conditioning import TextFeatures
from pm.model.prompt import Prompt, text_ids
from pm.model.words import Words, WordTable, split_words, with_table


@dataclass(frozen=True)
class Written:
    """A prompt to encode."""

    prompt: Prompt
    words: Words
    # Tokens that the class word's last token is repeated to: at every place, or at each.
    repeats: int | tuple[int, ...] = 1
    second: Prompt | None = None  # for the text encoders after the first, with the person at the same tokens
    clip_skip: int = 0  # as in `Family.encode`


@dataclass(frozen=True)
class Encoded:
    """One prompt's features."""

    text: TextFeatures  # embeds [1, K L, D], pooled [1, P]
    places: tuple[int, ...]  # of the class word's last token, the first where it is repeated; one for each `Place`


@dataclass(frozen=True)
class _Piece:
    """Tokens that stay together."""

    ids: list[int]
    weight: float
    place: int | None = None  # index of the class word's last token in `ids`
    repeats: int = 1  # of that


@dataclass
class _Layout:
    """Chunks of one prompt for one tokenizer, without start, end and padding."""

    chunks: list[list[int]]
    weights: list[list[float]]
    places: list[int]  # in the padded chunks, one after another

    def padded(self, tokenizer: Any, count: int) -> list[list[int]]:
        """`count` chunks of L tokens."""
        length, start, end = tokenizer.model_max_length, tokenizer.bos_token_id, tokenizer.eos_token_id
        chunks = self.chunks + [[]] * (count - len(self.chunks))
        framed = [[start, *chunk, end] for chunk in chunks]
        return [chunk + [tokenizer.pad_token_id] * (length - len(chunk)) for chunk in framed]


@torch.no_grad()
def encode_written(base: BaseModel, written: Sequence[Written]) -> list[Encoded]:
    """Features of B prompts, all chunks in one call of each text encoder.

    Raises:
        RequestError: a word, repeated or learned, with more tokens than a chunk has room for.
    """
    table = WordTable()
    layouts = [_layouts(base, each, table) for each in written]
    counts = [max(len(layout.chunks) for layout in row) for row in layouts]
    ids: list[list[list[int]]] = [[] for _ in base.tokenizers]
    for row, count in zip(layouts, counts, strict=True):
        for mine, layout, tokenizer in zip(ids, row, base.tokenizers, strict=True):
            mine += layout.padded(tokenizer, count)
    skips = [each.clip_skip for each, count in zip(written, counts, strict=True) for _ in range(count)]
    weighted = [any(weight != 1 for layout in row for chunk in layout.weights for weight in chunk) for row in layouts]
    empty = {each.clip_skip: 0 for each, found in zip(written, weighted, strict=True) if found}
    for skip in empty:  # z0, once for each depth of the encoders
        empty[skip] = len(skips)
        skips.append(skip)
        for mine, tokenizer in zip(ids, base.tokenizers, strict=True):
            mine += _Layout([[]], [[]], []).padded(tokenizer, 1)
    text = encode_text(with_table(base, table), tuple(torch.tensor(mine, dtype=torch.long) for mine in ids), skips)
    found, start = [], 0
    for each, row, count, some in zip(written, layouts, counts, weighted, strict=True):
        embeds = text.embeds[start : start + count]
        if some:
            weights = _table(base, row, embeds)
            embeds = _weighted(embeds, text.embeds[empty[each.clip_skip]], weights)
        features = TextFeatures(embeds.flatten(0, 1)[None], text.pooled[start : start + 1])
        found.append(Encoded(features, tuple(row[0].places)))
        start += count
    return found


def chunks_of(base: BaseModel, written: Written) -> int:
    """K, without any model.

    Raises:
        RequestError: as `encode_written`.
    """
    return max(len(layout.chunks) for layout in _layouts(base, written, WordTable()))


def places_of(tokenizer: Any, prompt: Prompt) -> tuple[int, ...]:
    """Tokens of the class word, as in `Encoded`."""
    return tuple(_lay_out(tokenizer, Written(prompt, {}), WordTable()).places)


def _layouts(base: BaseModel, written: Written, table: WordTable) -> list["_Layout"]:
    """One for each text encoder."""
    second = written if written.second is None else replace(written, prompt=written.second)
    return [_lay_out(t, second if i else written, table) for i, t in enumerate(base.tokenizers)]


def _table(base: BaseModel, layouts: Sequence["_Layout"], like: Tensor) -> Tensor:
    """Weights [K, L, D], or [K, L, 1] where the encoders' features do not stand side by side."""
    encoders: Any = base.text_encoders
    widths = [int(encoder.config.hidden_size) for encoder in encoders]
    parts = []
    for layout, width in zip(layouts, widths, strict=True):
        part = like.new_ones(like.shape[:2], dtype=torch.float32)
        for chunk, values in enumerate(layout.weights):
            part[chunk, 1 : 1 + len(values)] = torch.tensor(values)
        parts.append(part[..., None].expand(-1, -1, width))
    return torch.cat(parts, -1) if sum(widths) == like.shape[-1] else parts[0][..., :1]


def _weighted(embeds: Tensor, empty: Tensor, weights: Tensor) -> Tensor:
    """Chunks [K, L, D] with their tokens' weights; `empty` [L, D]. What has weight 1 stays as it is."""
    moved = empty.float() + weights * (embeds.float() - empty.float())
    return torch.where(weights == 1, embeds, moved.to(embeds.dtype))


def _lay_out(tokenizer: Any, written: Written, table: WordTable) -> _Layout:
    room = tokenizer.model_max_length - 2
    layout = _Layout([[]], [[]], [])
    for piece in _pieces(tokenizer, written, table):
        if piece is None:  # BREAK
            if layout.chunks[-1]:
                layout.chunks.append([])
                layout.weights.append([])
            continue
        if len(piece.ids) > room:
            what = "a learned word" if piece.place is None else f"class word {written.prompt.class_word!r}"
            often = f", repeated for {piece.repeats} identity tokens" if piece.repeats > 1 else ""
            raise RequestError(f"{what} has {len(piece.ids)} tokens{often}; at most {room} fit; use fewer photos")
        if len(layout.chunks[-1]) + len(piece.ids) > room:
            layout.chunks.append([])
            layout.weights.append([])
        if piece.place is not None:
            before = (len(layout.chunks) - 1) * tokenizer.model_max_length + 1 + len(layout.chunks[-1])
            layout.places.append(before + piece.place)
        layout.chunks[-1] += piece.ids
        layout.weights[-1] += [piece.weight] * len(piece.ids)
    return layout


def _pieces(tokenizer: Any, written: Written, table: WordTable) -> list[_Piece | None]:
    """What must not be cut, in order; None is a BREAK. The person's tokens stay together, as do a learned word's."""
    prompt, found = written.prompt, list[_Piece | None]()
    often = written.repeats if isinstance(written.repeats, tuple) else (written.repeats,) * len(prompt.places)
    spans = [(*place.span, n) for place, n in zip(prompt.places, often, strict=True)]
    for start, end in _runs(prompt):
        if start in prompt.breaks:
            found.append(None)
        weight, position = prompt.weights[start] if prompt.weights else 1.0, start
        for part in split_words(prompt.text[start:end], written.words):
            if part in written.words:
                found.append(_Piece(table.ids(written.words[part]), weight))
            else:
                inside = [each for each in spans if position <= each[0] and each[1] <= position + len(part)]
                mine = [(a - position, b - position, n) for a, b, n in inside]
                found += _text_pieces(tokenizer, part, weight, mine)
            position += len(part)
    return found


def _text_pieces(tokenizer: Any, text: str, weight: float, spans: Sequence[tuple[int, int, int]]) -> list[_Piece]:
    """Tokens of a text of one weight; `spans`: of the class words in it, and to how many tokens each is repeated."""
    ids, done, found = text_ids(tokenizer, text), 0, list[_Piece]()
    for start, end, repeats in spans:
        # CLIP's BPE never merges across words, so the tokens up to a word's end are the first of the whole.
        last = len(text_ids(tokenizer, text[:end]))
        first = min(len(text_ids(tokenizer, text[:start])), last - 1)
        found += [_Piece([token], weight) for token in ids[done:first]]
        repeated = ids[first:last] + ids[last - 1 : last] * (repeats - 1)
        found.append(_Piece(repeated, weight, last - 1 - first, repeats))
        done = last
    return found + [_Piece([token], weight) for token in ids[done:]]


def _runs(prompt: Prompt) -> list[tuple[int, int]]:
    """Spans of the text of one weight each, between breaks."""
    size, weights = len(prompt.text), prompt.weights
    edges = {0, size, *prompt.breaks}
    if weights:
        edges |= {i for i in range(1, size) if weights[i] != weights[i - 1]}
    ordered = sorted(edge for edge in edges if edge <= size)
    return list(zip(ordered, ordered[1:], strict=False)) or [(0, size)]
