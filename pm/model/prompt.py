"""Prompts: which word stands for the person, and where its token is."""

import re
import threading
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pm.errors import DataError, RequestError
from pm.model.class_words import CLASS_WORDS, folded, is_class_word
from pm.model.trigger import class_word_before, numbered, triggers
from pm.model.weighting import Weighted, Weighting, read_weights

if TYPE_CHECKING:
    from torch import Tensor

MOST_STRENGTH = 1.5  # of an identity; beyond, tokens leave what the U-Net was trained with
# A tokenizer keeps padding and truncation as its own state: two threads that ask for different ones would mix them up.
_TOKENIZER = threading.Lock()


@dataclass(frozen=True)
class Place:
    """Where a person's identity goes."""

    span: tuple[int, int]  # characters of the class word in the text
    strength: float = 1.0  # of the identity there, from the word's weight
    person: int = 1  # whose it is, from 1


@dataclass(frozen=True)
class Prompt:
    """A prompt without its trigger word and without the syntax of weights, and the class word's place in it."""

    text: str
    class_word: str  # the first; "": nobody in particular
    span: tuple[int, int]  # characters of the class word in `text`, the first time
    strength: float = 1.0  # of the identity there
    others: tuple[Place, ...] = ()  # where the same person is named again, or another
    weights: tuple[float, ...] = ()  # of each character; (): all 1
    breaks: tuple[int, ...] = ()  # characters before which a new chunk begins
    person: int = 1  # who is named first

    @property
    def places(self) -> tuple[Place, ...]:
        """Every place of a person, in order; () without a class word."""
        return (Place(self.span, self.strength, self.person), *self.others) if self.class_word else ()


def parse_prompt(
    prompt: str,
    trigger: str = "img",
    class_words: Collection[str] | None = CLASS_WORDS,
    weighting: Weighting = "explicit",
    people: int = 1,
) -> Prompt:
    """Split "a man img in a red hoodie" into the plain text and the class word before the trigger.

    The class word's weight, `(man img:1.2)`, is the strength of the identity.

    Args:
        prompt: what the user wrote; the trigger is matched as a whole word, in any case, and may stand twice for one
            person ("a man img, the man img from behind").
        trigger: the word that marks the class word.
        class_words: that say whether "man" or "man's" is meant; any word may stand before the trigger.
        weighting: as in `pm.model.weighting.read_weights`.
        people: how many there are photos of: "a man img and a woman img2".

    Raises:
        RequestError: no trigger, one of a person that is not there, none of one that is, different words for one
            person, no word right before a trigger, or a weight out of range.
    """
    left = read_weights(unicodedata.normalize("NFC", prompt), weighting)
    found = list(triggers(left.text, trigger))
    if not found:
        raise RequestError(
            f"prompt {prompt!r} lacks the trigger word; write {trigger!r} after the person, e.g. 'a man {trigger} "
            "...', or set trigger=auto"
        )
    _check_people(prompt, trigger, {person for *_, person in found}, people)
    places: list[Place] = []
    for start, end, person in reversed(found):
        span = class_word_before(left.text[:start], class_words)
        if span is None:
            raise RequestError(
                f"prompt {prompt!r} has no class word before {numbered(trigger, person)!r}; write e.g. "
                f"'a man {numbered(trigger, person)} ...'"
            )
        before = left.text[:start].rstrip()
        before = before[:-1] if before.endswith("-") and start == len(before) else before  # "man-img"
        gone = end - len(before)
        # (man img:1.2), (man:1.2) img and man (img:1.2) mean the same.
        strength = max(left.weights[span[0]], left.weights[start], key=lambda weight: abs(weight - 1))
        left = left.cut(len(before), end).neutral(*span)
        places = [Place(span, strength, person)] + [_moved(place, -gone) for place in places]
    left = left.cut(len(left.text.rstrip()), len(left.text))
    _check_words(prompt, trigger, left.text, places)
    _check_strength(prompt, places)
    return _prompt(left, left.text[slice(*places[0].span)], places)


def plain_prompt(prompt: str, weighting: Weighting = "explicit") -> Prompt:
    """A prompt with nobody's identity in it.

    Raises:
        RequestError: a weight out of range.
    """
    left = read_weights(prompt, weighting)
    return Prompt(left.text, "", (0, 0), 1.0, (), *_rest(left))


def class_word_note(prompt: Prompt, trigger: str, class_words: Collection[str] | None) -> str | None:
    """What the user should know of a class word that is in no list; None where there is nothing to say."""
    words = ((prompt.text[slice(*place.span)], numbered(trigger, place.person)) for place in prompt.places)
    odd = next(((word, mark) for word, mark in words if not is_class_word(word, class_words)), None)
    return odd and (
        f"{odd[0]!r} stands before {odd[1]!r}: is it the word for the person? If so, add it to class_words; else write "
        "for example man, woman, boy, girl or person there"
    )


def with_class_word(prompt: Prompt, words: str) -> Prompt:
    """The prompt with other words for the person; the last of them is the class word.

    Raises:
        RequestError: there is no word, or several people.
    """
    if any(place.person != 1 for place in prompt.places):
        raise RequestError(f"class_word={words!r} is for one person; write the words of several into the prompt")
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
        places = [Place((start + own[0], start + own[1]), place.strength), *(_moved(p, more) for p in places)]
    return _prompt(left, words[slice(*own)], places) if places else prompt


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


def _prompt(left: Weighted, class_word: str, places: Sequence[Place]) -> Prompt:
    first, *others = places
    return Prompt(left.text, class_word, first.span, first.strength, tuple(others), *_rest(left), first.person)


def _moved(place: Place, by: int) -> Place:
    return Place((place.span[0] + by, place.span[1] + by), place.strength, place.person)


def _check_people(prompt: str, trigger: str, named: set[int], people: int) -> None:
    """Refuse a prompt that names people without photos, or not all of those with photos."""
    photos = "one person" if people == 1 else f"{people} people"
    missing = next((person for person in range(1, max(*named, people) + 1) if person not in named), None)
    if 0 in named:
        raise RequestError(f"prompt {prompt!r} has {trigger}0; people are counted from 1: {trigger}, {trigger}2, ...")
    if missing is not None and missing < max(named):
        raise RequestError(
            f"prompt {prompt!r} has {numbered(trigger, max(named))!r} but no {numbered(trigger, missing)!r}; "
            f"number the people without a gap: {trigger}, {trigger}2, ..."
        )
    if max(named) > people:
        raise RequestError(
            f"prompt {prompt!r} has {numbered(trigger, max(named))!r}, but there are photos of {photos}; give "
            "people=, each with photos of their own, or leave it out"
        )
    if missing is not None:
        raise RequestError(
            f"prompt {prompt!r} has no place for person {missing} of {people}; write {numbered(trigger, missing)!r} "
            f"after the word for them, as in 'a man {trigger} and a woman {trigger}2'"
        )


def _check_words(prompt: str, trigger: str, text: str, places: Sequence[Place]) -> None:
    for person in {place.person for place in places}:
        words = [text[slice(*place.span)] for place in places if place.person == person]
        if len({folded(word) for word in words}) > 1:
            mark = numbered(trigger, person)
            raise RequestError(
                f"prompt {prompt!r} has the trigger word {mark!r} {len(words)} times, after {' and '.join(words)}; it "
                f"stands for one person: write it after one of them, or {trigger}2 with people= for another"
            )


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
