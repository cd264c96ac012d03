"""The words that stand for one person (paper section 3.3: "man, woman, boy, ..."). One list for every entrance."""

import unicodedata
from collections.abc import Collection, Mapping

_WORDS = (
    "man woman boy girl person guy lady gentleman baby toddler child kid teenager adult human male female "
    "father mother grandfather grandmother grandpa grandma husband wife brother sister son daughter uncle aunt "
    "king queen prince princess hero heroine warrior knight wizard witch soldier officer astronaut scientist doctor "
    "nurse teacher student athlete dancer singer musician actor actress artist chef pilot sailor pirate elf"
)
CLASS_WORDS = frozenset(_WORDS.split())
# The class word is singularised to mean one person (paper section 3.3).
PLURALS: Mapping[str, str] = {
    "men": "man",
    "women": "woman",
    "people": "person",
    "children": "child",
    "ladies": "lady",
    "babies": "baby",
    "wives": "wife",
} | {f"{word}s": word for word in CLASS_WORDS if not word.endswith(("man", "child", "lady", "baby", "wife", "s"))}
# Ends of words that are such words: businesswoman, policemen, cowgirl, schoolboy, gentlelady.
_ENDS = ("man", "men", "woman", "women", "boy", "boys", "girl", "girls", "person", "lady", "child")
# Other words with such an end, that no photo of a person is meant by.
_NOT_PEOPLE = frozenset({"talisman", "ottoman", "german", "roman", "specimen", "omen", "acumen", "abdomen", "regimen"})
ANY = "any"  # among a setting's class words: every word is one


def folded(word: str) -> str:
    """A word as it is compared: composed (NFC) and without case."""
    return unicodedata.normalize("NFC", word).casefold()


def with_class_words(more: Collection[str]) -> frozenset[str] | None:
    """The list, and words of one's own; None, which allows every word, where `more` has `ANY`."""
    words = {folded(word) for word in more}
    return None if ANY in words else CLASS_WORDS | words


def is_class_word(word: str, words: Collection[str] | None = CLASS_WORDS) -> bool:
    """Whether a word stands for a person, in any case and any Unicode form; None: every word does.

    Plurals are taken ("women"), words made with those of the list ("businesswoman", "fire-man"), and those with a
    number before them, as booru tags have it ("1girl").
    """
    if words is None:
        return True
    plain = folded(word)
    last = plain.replace("’", "'").split("-")[-1].lstrip("0123456789")
    if {plain, last} & {folded(each) for each in words} or last in PLURALS:
        return True
    return last.endswith(_ENDS) and last not in _NOT_PEOPLE
