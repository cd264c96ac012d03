"""Prompts: which word stands for the person, and where its token is."""

import re
import threading
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pm.errors import DataError, RequestError
from pm.model.class_words import CLASS_WORDS, folded, is_class_word
from pm.model.trigger import class_word_before, triggers
from pm.model.weighting import Weighted, Weighting, read_weights

if TYPE_CHECKING:
    from torch import Tensor

MOST_STRENGTH = 1.5  # of an identity; beyond, tokens leave what the U-Net was trained with
# A tokenizer keeps padding and truncation as its own state: two threads that ask for different ones would mix them up.
_TOKENIZER = threading.Lock()


@dataclass(frozen=True)
class Place:
    """Where the person's identity goes."""

    span: tuple[int, int]  # characters of the class word in the text
    strength: float = 1.0  # of the identity there, from the word's weight


@dataclass(frozen=True)
class Prompt:
    """A prompt without its trigger word and without the syntax of weights, and the class word's place in it."""

    text: str
    class_word: str  # "": nobody in particular
    span: tuple[int, int]  # characters of the class word in `text`, the first time
    strength: float = 1.0  # of the identity there
    others: tuple[Place, ...] = ()  # where the same person is named again
    weights: tuple[float, ...] = ()  # of each character; (): all 1
    breaks: tuple[int, ...] = ()  # characters before which a new chunk begins

    @property
    def places(self) -> tuple[Place, ...]:
        """Every place of the person, in order; () without a class word."""
        return (Place(self.span, self.strength), *self.others) if self.class_word else ()


def parse_prompt(
    prompt: str,
    trigger: str = "img",
    class_words: Collection[str] | None = CLASS_WORDS,
    weighting: Weighting = "explicit",
) -> Prompt:
    """Split "a man img in a red hoodie" into the plain text and the class word before the trigger.

    The class word's weight, `(man img:1.2)`, is the strength of the identity.

    Args:
        prompt: what the user wrote; the trigger is matched as a whole word, in any case, and may stand twice for one
            person ("a man img, the man img from behind").
        trigger: the word that marks the class word.
        class_words: that say whether "man" or "man's" is meant; any word may stand before the trigger.
        weighting: as in `pm.model.weighting.read_weights`.

    Raises:
        RequestError: no trigger, triggers of different people, no word right before one, or a weight out of range.
    """
    left = read_weights(unicodedata.normalize("NFC", prompt), weighting)
    found = list(triggers(left.text, trigger))
    if not found:
        raise RequestError(
            f"prompt {prompt!r} lacks the trigger word; write {trigger!r} after the person, e.g. 'a man {trigger} "
            "...', or set trigger=auto"
        )
    places: list[Place] = []
    for start, end in reversed(found):
        span = class_word_before(left.text[:start], class_words)
        if span is None:
            raise RequestError(
                f"prompt {prompt!r} has no class word before {trigger!r}; write e.g. 'a man {trigger} ...'"
            )
        before = left.text[:start].rstrip()
        before = before[:-1] if before.endswith("-") and start == len(before) else before  # "man-img"
        gone = end - len(before)
        # (man img:1.2), (man:1.2) img and man (img:1.2) mean the same.
        strength = max(left.weights[span[0]], left.weights[start], key=lambda weight: abs(weight - 1))
        left = left.cut(len(before), end).neutral(*span)
        places = [Place(span, strength)] + [Place((p.span[0] - gone, p.span[1] - gone), p.strength) for p in places]
    left = left.cut(len(left.text.rstrip()), len(left.text))
    words = [left.text[slice(*place.span)] for place in places]
    if len({folded(word) for word in words}) > 1:
        raise RequestError(
            f"prompt {prompt!r} has the trigger word {trigger!r} {len(found)} times, after {' and '.join(words)}; the "
            "photos are of one person: write it after one of them"
        )
    _check_strength(prompt, places)
    return Prompt(left.text, words[0], places[0].span, places[0].strength, tuple(places[1:]), *_rest(left))


def plain_prompt(prompt: str, weighting: Weighting = "explicit") -> Prompt:
    """A prompt with nobody's identity in it.

    Raises:
        RequestError: a weight out of range.
    """
    left = read_weights(prompt, weighting)
    return Prompt(left.text, "", (0, 0), 1.0, (), *_rest(left))


def class_word_note(prompt: Prompt, trigger: str, class_words: Collection[str] | None) -> str | None:
    """What the user should know of a class word that is in no list; None where there is nothing to say."""
    if not prompt.class_word or is_class_word(prompt.class_word, class_words):
        return None
    return (
        f"{prompt.class_word!r} stands before {trigger!r}: is it the word for the person? If so, add it to "
        "class_words; else write for example man, woman, boy, girl or person there"
    )


def with_class_word(prompt: Prompt, words: str) -> Prompt:
    """The prompt with other words for the person; the last of them is the class word.

    Raises:
        RequestError: there is no word.
    """
    words = unicodedata.normalize("NFC", words).strip()
    own = class_word_before(words, None)
    if own is None or own[1] != len(words):
        raise RequestError(f"class_word={words!r} has no word at its end; give a word for the person, for example girl")
    left = Weighted(prompt.text, prompt.weights or (1.0,) * len(prompt.text), prompt.breaks)
    places: list[Place] = []
    for place in reversed(prompt.places):
        start, end = place.span
        more = len(words) - (end - start)
        text = left.text[:start] + words + left.text[end:]
        weights = (*left.weights[:start], *[1.0] * len(words), *left.weights[end:])
        left = Weighted(text, weights, tuple(at + more if at >= end else at for at in left.breaks))
        moved = [Place((p.span[0] + more, p.span[1] + more), p.strength) for p in places]
        places = [Place((start + own[0], start + own[1]), place.strength), *moved]
    if not places:
        return prompt
    return Prompt(left.text, words[slice(*own)], places[0].span, places[0].strength, tuple(places[1:]), *_rest(left))


def mark(text: str, class_word: str) -> Prompt:
    """Find the class word in a training caption (its first occurrence as a whole word, in any case and Unicode form).

    Raises:
        DataError: the caption does not have it.
    """
    caption, word = (unicodedata.normalize("NFC", value) for value in (text, class_word))
    found = re.search(rf"(?<![\w'\-]){re.escape(word)}(?![\w'\-])", caption, re.IGNORECASE)
    if found is None:
        raise DataError(
            f"caption {text!r} lacks the class word {class_word!r}; write it into the caption or drop the photo"
        )
    return Prompt(caption, found[0], found.span())


def _rest(left: Weighted) -> tuple[tuple[float, ...], tuple[int, ...]]:
    return (() if all(weight == 1 for weight in left.weights) else left.weights), left.breaks


def _check_strength(prompt: str, places: Sequence[Place]) -> None:
    for place in places:
        if place.strength > MOST_STRENGTH:
            raise RequestError(
                f"the person's weight {place.strength:g} in prompt {prompt[:200]!r} is out of range; use 0 to "
                f"{MOST_STRENGTH:g}, 1 is the photos as they are"
            )


def class_token_index(tokenizer: Any, prompt: Prompt) -> int:
    """Index of the class word's last token in the tokenized text, start token included.

    Raises:
        RequestError: the word lies behind the last token that fits.
    """
    # CLIP's BPE never merges across words, so the tokens of the text up to the word's end are a prefix of the whole.
    index = len(text_ids(tokenizer, prompt.text[: prompt.span[1]]))  # the start token is at 0
    if index > tokenizer.model_max_length - 2:
        limit = tokenizer.model_max_length
        raise RequestError(
            f"class word {prompt.class_word!r} is token {index}; the text encoders see {limit}, so move it forward"
        )
    return index


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of `text` alone: no start and end, no padding, no truncation."""
    with _TOKENIZER:
        ids: list[int] = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
    return ids


def tokenize(tokenizers: Sequence[Any], texts: Sequence[str]) -> "tuple[Tensor, ...]":
    """Token ids of every tokenizer, each [B, L] int64, padded and truncated to the tokenizer's length."""
    import torch

    with _TOKENIZER:
        return tuple(
            torch.tensor(
                t(list(texts), padding="max_length", max_length=t.model_max_length, truncation=True).input_ids,
                dtype=torch.long,
            )
            for t in tokenizers
        )
