"""Prompts: which word stands for the person, and where its token is."""

import re
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pm.errors import DataError, RequestError

if TYPE_CHECKING:
    from torch import Tensor

# Words that stand for one person (paper section 3.3: "man, woman, boy, ...").
_WORDS = (
    "man woman boy girl person guy lady gentleman baby toddler child kid teenager adult human male female "
    "father mother grandfather grandmother grandpa grandma husband wife brother sister son daughter uncle aunt "
    "king queen prince princess hero heroine warrior knight wizard witch soldier officer astronaut scientist doctor "
    "nurse teacher student athlete dancer singer musician actor actress artist chef pilot sailor pirate elf"
)
CLASS_WORDS = frozenset(_WORDS.split())
# A tokenizer keeps padding and truncation as its own state: two threads that ask for different ones would mix them up.
_TOKENIZER = threading.Lock()
_WORD = r"[^\W_]+(?:['\-][^\W_]+)*"


@dataclass(frozen=True)
class Prompt:
    """A prompt without its trigger word, and the class word's place in it."""

    text: str
    class_word: str
    span: tuple[int, int]  # characters of the class word in `text`


def parse_prompt(prompt: str, trigger: str = "img", class_words: Collection[str] | None = CLASS_WORDS) -> Prompt:
    """Split "a man img in a red hoodie" into the plain text and the class word before the trigger.

    Args:
        prompt: what the user wrote; the trigger is matched as a whole word, in any case.
        trigger: the word that marks the class word.
        class_words: words that may stand before the trigger; None accepts every word.

    Raises:
        RequestError: no trigger, more than one, or no known class word right before it.
    """
    found = list(re.finditer(rf"(?<!\w){re.escape(trigger)}(?!\w)", prompt, re.IGNORECASE))
    if not found:
        raise RequestError(
            f"prompt {prompt!r} lacks the trigger word; write {trigger!r} after the person, e.g. 'a man {trigger} ...'"
        )
    if len(found) > 1:
        raise RequestError(f"prompt {prompt!r} has the trigger word {trigger!r} {len(found)} times; write it once")
    before, after = prompt[: found[0].start()].rstrip(), prompt[found[0].end() :]
    word = re.search(rf"{_WORD}$", before)
    if word is None:
        raise RequestError(f"prompt {prompt!r} has no class word before {trigger!r}; write e.g. 'a man {trigger} ...'")
    if class_words is not None and word[0].lower() not in class_words:
        known = ", ".join(["man", "woman", "boy", "girl", "person"])
        raise RequestError(
            f"{word[0]!r} before {trigger!r} is not a class word; use {known}, ... or add it to class_words"
        )
    return Prompt((before + after).rstrip(), word[0], word.span())


def mark(text: str, class_word: str) -> Prompt:
    """Find the class word in a training caption (its first occurrence as a whole word, in any case).

    Raises:
        DataError: the caption does not have it.
    """
    found = re.search(rf"(?<![\w'\-]){re.escape(class_word)}(?![\w'\-])", text, re.IGNORECASE)
    if found is None:
        raise DataError(
            f"caption {text!r} lacks the class word {class_word!r}; write it into the caption or drop the photo"
        )
    return Prompt(text, found[0], found.span())


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


def token_count(tokenizer: Any, text: str) -> int:
    """Tokens of `text`, start and end tokens included, before any truncation."""
    with _TOKENIZER:
        return len(tokenizer(text, truncation=False, verbose=False).input_ids)


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
