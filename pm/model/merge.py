"""Put a row's identity tokens into its text embedding: `insert` (the paper, eq. 1-2) or `repeat` (published weights).

Shapes: B rows, L text tokens, K identity tokens of all rows together (ragged, `counts` [B]), D text width. Everything
is out of place and vectorised over rows with different counts.
"""

import torch
from torch import Tensor

from pm.errors import RequestError
from pm.model.ragged import pad_ragged, row_of_each, slot_of_each


def insert_tokens(
    text: Tensor, class_index: Tensor, tokens: Tensor, counts: Tensor, most: int | None = None
) -> tuple[Tensor, Tensor]:
    """Replace the class word's vector by the row's identity tokens: t* in R^{(L + N - 1) x D}.

    Args:
        text: [B, L, D].
        class_index: [B] int64, the class word's token.
        tokens: [K, D], ragged by `counts`.
        counts: [B] int64, each at least 1.
        most: the largest of `counts`, where the host knows it: reading it from a GPU waits for all that is queued.

    Returns:
        merged [B, T, D] with T = L + max(counts) - 1, zeros after a row's last token; mask [B, T] bool, True = attend.
    """
    length, most = text.shape[1], int(counts.max()) if most is None else most
    k, n = class_index[:, None], counts[:, None]
    position = torch.arange(length + most - 1, device=text.device)[None]
    after = (position - n + 1).clamp(0, length - 1)
    source = torch.where(position < k, position, torch.where(position < k + n, length + position - k, after))
    mask = position < length + n - 1
    return torch.where(mask[..., None], _take(text, tokens, counts, most, source), text.new_zeros(())), mask


def replace_tokens(
    text: Tensor, class_index: Tensor, tokens: Tensor, counts: Tensor, most: int | None = None
) -> Tensor:
    """Put the identity tokens over the N repeated class tokens that start at `class_index`; returns [B, L, D].

    `most`: as in `insert_tokens`.
    """
    length, most = text.shape[1], int(counts.max()) if most is None else most
    k, n = class_index[:, None], counts[:, None]
    position = torch.arange(length, device=text.device)[None]
    inside = (position >= k) & (position < k + n)
    return _take(text, tokens, counts, most, torch.where(inside, length + position - k, position))


def owner_of_each(owner: Tensor, class_index: Tensor, counts: Tensor, person: int, repeated: bool) -> Tensor:
    """Whose each token is, [B, T] int8, person from 1, after `counts` tokens of a person were put in at `class_index`.

    Args:
        owner: [B, T] before; 0: nobody's.
        class_index: [B] int64.
        counts: [B] int64.
        person: whose the new tokens are.
        repeated: they took the places of so many repeated class tokens, instead of being inserted.
    """
    tokens = owner.new_full((int(counts.sum()), 1), person)
    if repeated:
        return replace_tokens(owner[..., None], class_index, tokens, counts)[..., 0]
    return insert_tokens(owner[..., None], class_index, tokens, counts)[0][..., 0]


def class_features(text: Tensor, class_index: Tensor, counts: Tensor, total: int, repeated: bool) -> Tensor:
    """The class word's text feature beside each identity token, [total, D]; its own position when it was repeated."""
    rows = row_of_each(counts, total)
    position = class_index[rows]
    return text[rows, position + slot_of_each(counts, total) if repeated else position]


def repeat_class_tokens(
    ids: Tensor, class_index: Tensor, counts: Tensor, eos_token_id: int, *, truncate: bool = False
) -> Tensor:
    """Repeat each row's class token N times before the text encoders see it, keeping L tokens.

    Args:
        ids: [B, L] int64 on the CPU, start and end tokens included, padded.
        class_index: [B] int64, the class word's token.
        counts: [B] int64, N of each row.
        eos_token_id: the tokenizer's end token; the text ends at the first one.
        truncate: drop the last words of a text that gets too long (its end token stays), as tokenizers do; for
            training, where a caption is given. Otherwise that is an error.

    Raises:
        RequestError: the text does not fit; or its class tokens do not, whatever `truncate` says.
    """
    length = ids.shape[1]
    k, n = class_index[:, None], counts[:, None]
    end = (ids == eos_token_id).int().argmax(1, keepdim=True) + n - 1
    if not truncate and bool((end >= length).any()):
        most = int((end + 1).max())
        raise RequestError(
            f"prompt has {most} tokens with its class word repeated for each ID image; at most {length} fit"
        )
    if bool((k + n > length - 1).any()):
        raise RequestError(
            f"class word at token {int(k.max())} leaves no room to repeat it {int(n.max())} times in {length}"
        )
    position = torch.arange(length)[None]
    after = (position - n + 1).clamp(0, length - 1)
    source = torch.where(position < k, position, torch.where(position < k + n, k, after))
    repeated = ids.gather(1, source)
    cut = (position == length - 1) & (end >= length)
    return torch.where(cut, eos_token_id, repeated)


def _take(text: Tensor, tokens: Tensor, counts: Tensor, most: int, source: Tensor) -> Tensor:
    """Gather from [text; identity tokens] along the token axis by `source` [B, T]."""
    joined = torch.cat([text, pad_ragged(tokens.to(text.dtype), counts, most)], dim=1)
    # Indices into the padding of a short row are masked by the caller; keep them inside the tensor.
    index = source.clamp(max=joined.shape[1] - 1)
    return joined.gather(1, index[..., None].expand(-1, -1, text.shape[2]))
