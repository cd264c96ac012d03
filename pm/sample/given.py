"""Text features that the caller made: compel's, another program's, or those of `encode_prompt`, changed.

Shapes: T tokens, at least the base's own number L; D text width, P pooled width.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pm.errors import RequestError
from pm.model.conditioning import TextFeatures

if TYPE_CHECKING:
    from pm.model.base import BaseModel
    from pm.sample.checks import Terms
    from pm.sample.request import Request


@dataclass(frozen=True, eq=False)
class GivenText:
    """Instead of one prompt."""

    # [1, T, D]; with the class word repeated where the adapter's file says `merge=repeat`. None: the prompt's own.
    text: TextFeatures | None
    plain: TextFeatures | None = None  # seen before the merge step; None: `text`, for adapters that insert
    class_tokens: tuple[int, ...] = ()  # places of the class word in `text`, where the identity goes; (): no adapter


def stands_for_prompt(request: "Request") -> bool:
    """Whether the caller's features are there instead of the request's prompt."""
    return request.text is not None and request.text.text is not None


def check_given(request: "Request", base: "BaseModel", terms: "Terms | None") -> None:
    """Check features that stand for a prompt or a negative one.

    Raises:
        RequestError: their shape is not the base's, or the class word's place is missing or wrong.
    """
    given = request.text
    if request.negative_text is not None:
        _check_shape("negative_prompt_embeds", request.negative_text, base)
    if given is None:
        return
    if given.plain is not None:
        _check_shape("prompt_embeds_text_only", given.plain, base)
    if given.text is None:
        return
    _check_shape("prompt_embeds", given.text, base)
    if terms is None or not terms.kind.marks_class_word:
        return
    places, wanted = given.class_tokens, terms.repeats(request.references)
    if len(places) != wanted:
        raise RequestError(
            f"class_tokens_mask marks {len(places)} tokens where {request.references} ID images need {wanted}; make "
            "both with encode_prompt_with_trigger_word"
        )
    if list(places) != list(range(places[0], places[0] + wanted)) or places[-1] >= given.text.embeds.shape[1]:
        raise RequestError(f"class_tokens_mask marks tokens {list(places)}; they must stand side by side in the prompt")
    if given.plain is None and wanted > 1 and request.merge_step != 0:
        raise RequestError(
            "prompt_embeds_text_only is missing, which the steps before the merge see; give it, or start_merge_step=-1"
        )


def class_places(mask: Any) -> tuple[int, ...]:
    """The places that a mask [T] or [1, T] of the class word's tokens marks.

    Raises:
        RequestError: it has another shape.
    """
    values = torch.as_tensor(mask)
    values = values[0] if values.ndim == 2 and len(values) == 1 else values
    if values.ndim != 1:
        raise RequestError(f"class_tokens_mask has shape {tuple(values.shape)}; give [tokens] for each prompt")
    return tuple(int(i) for i in values.bool().nonzero().flatten())


def class_mask(places: tuple[int, ...], length: int) -> Tensor:
    """The mask [T] bool of `places`."""
    mask = torch.zeros(length, dtype=torch.bool)
    mask[list(places)] = True
    return mask


def _check_shape(name: str, text: TextFeatures, base: "BaseModel") -> None:
    embeds, pooled = tuple(text.embeds.shape), tuple(text.pooled.shape)
    least = base.max_tokens
    if len(embeds) != 3 or embeds[0] != 1 or embeds[1] < least or embeds[2] != base.text_width:
        raise RequestError(
            f"{name} has shape {embeds}; this base takes [1, {least} or more tokens, {base.text_width}] for an image"
        )
    if pooled != (1, base.pooled_width):
        raise RequestError(f"pooled {name} has shape {pooled}; this base takes {(1, base.pooled_width)} for an image")
