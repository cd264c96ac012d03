"""The trigger word in a prompt, and the word before it; in any script and any Unicode form."""

import re
import unicodedata
from collections.abc import Collection, Iterator

from pm.model.class_words import CLASS_WORDS, PLURALS, folded, is_class_word

_JOINS = "'’-"  # inside a word
_QUOTES = "\"'`*~"  # after a word, besides what Unicode calls closing
_PAIRS = ("()", "[]", "{}", "<>", '""', "''", "``", "**", "“”", "‘’", "«»")
# Who is meant where a prompt names nobody: "put him on a horse".
_PRONOUNS = {"he": "man", "him": "man", "his": "man", "she": "woman", "her": "woman", "hers": "woman"}


def triggers(text: str, trigger: str) -> Iterator[tuple[int, int, int]]:
    """Spans of the trigger as a whole word, with the quotes or brackets that enclose it alone, and whose it is.

    `img` is of the first person, as is `img1`; `img2` of the second, and so on.
    """
    word = re.escape(unicodedata.normalize("NFC", trigger))
    for match in re.finditer(rf"(?<!\w){word}([0-9]{{0,2}})(?!\w)", text, re.IGNORECASE):
        start, end = match.span()
        if _is_letter(text[end : end + 1]):
            continue
        if start > 0 and text[start - 1] + text[end : end + 1] in _PAIRS:
            start, end = start - 1, end + 1
        yield start, end, int(match[1] or 1)


def has_trigger(prompt: str, trigger: str) -> bool:
    """Whether a prompt has the trigger word."""
    return any(True for _ in triggers(unicodedata.normalize("NFC", prompt), trigger))


def numbered(trigger: str, person: int) -> str:
    """The trigger of a person, from 1: img, img2, img3, ..."""
    return trigger if person == 1 else f"{trigger}{person}"


def put_trigger(prompt: str, trigger: str, class_words: Collection[str] | None = CLASS_WORDS, people: int = 1) -> str:
    """The prompt with the trigger word after its first class word; as it is where it has the trigger.

    With several `people`, each gets the next class word: "a man img and a woman img2".
    A prompt without a class word gets one in front: "a man img, put him on a horse"; "a person img, ..." where nothing
    tells more.
    """
    text = unicodedata.normalize("NFC", prompt)
    if has_trigger(text, trigger):
        return prompt
    known = CLASS_WORDS | {folded(word) for word in class_words or ()} | PLURALS.keys()
    spans = [_without_possessive(text, span, known) for span in _words(text)]
    listed = [span for span in spans if folded(text[slice(*span)]) in known]
    # Words that only end like one come after: a German shepherd is not the person.
    like = [span for span in spans if span not in listed and is_class_word(text[slice(*span)], known)]
    found = sorted((listed + like)[:people])
    for person, (_, end) in reversed(list(enumerate(found, 1))):
        text = f"{text[:end]} {numbered(trigger, person)}{text[end:]}"
    if found:
        return text
    names = (_PRONOUNS[word] for word in (folded(text[slice(*span)]) for span in spans) if word in _PRONOUNS)
    return f"a {next(names, 'person')} {trigger}, {text.lstrip()}"


def class_word_before(text: str, class_words: Collection[str] | None) -> tuple[int, int] | None:
    """The word that ends a text, quotes and brackets after it aside."""
    end = len(text.rstrip())
    end -= text[:end].endswith("-") and end == len(text)
    while end and (text[end - 1] in _QUOTES or unicodedata.category(text[end - 1]) in ("Pe", "Pf")):
        end = len(text[: end - 1].rstrip())
    start = _word_start(text, end)
    return None if start == end else _without_possessive(text, (start, end), class_words)


def _without_possessive(text: str, span: tuple[int, int], words: Collection[str] | None) -> tuple[int, int]:
    """ "man" of "man's", where that is a class word."""
    head = re.fullmatch(r"(.+)['’]s", text[slice(*span)], re.IGNORECASE)
    return (span[0], span[0] + len(head[1])) if head and words is not None and is_class_word(head[1], words) else span


def _words(text: str) -> Iterator[tuple[int, int]]:
    """Spans of the words of a text."""
    end = 0
    while end < len(text):
        start = end
        while end < len(text) and (_is_letter(text[end]) or (text[end] in _JOINS and _joined(text, end))):
            end += 1
        if end > start:
            yield start, end
        end = max(end, start + 1)


def _word_start(text: str, end: int) -> int:
    """Where the word that ends before `end` begins; `end` itself where there is none."""
    start = end
    while start and (_is_letter(text[start - 1]) or (text[start - 1] in _JOINS and _joined(text[:end], start - 1))):
        start -= 1
    return start


def _joined(text: str, at: int) -> bool:
    """Whether the character at `at` stands between two letters."""
    return at > 0 and _is_letter(text[at - 1]) and _is_letter(text[at + 1 : at + 2])


def _is_letter(character: str) -> bool:
    """A letter or a digit of any script, or a mark on one: not every letter with an accent is one character."""
    return character.isalnum() or (character != "" and unicodedata.category(character)[0] == "M")
