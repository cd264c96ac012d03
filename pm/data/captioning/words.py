"""The words of captions that stand for a person."""

import re
import unicodedata

from pm.model.class_words import CLASS_WORDS, PLURALS


def folder_class_word(identity: str) -> str:
    """The class word in a folder's name, "person" where none can be told; see `class_word_in`."""
    return class_word_in(identity) or "person"


def class_word_in(identity: str) -> str:
    """The class word that a folder's name says, "" where it says none, or several.

    Words are what is between anything but letters: `anna_woman`, `anna woman`, `Anna-Woman-2023`. The last one counts
    if it is a class word; else the only one that is (`woman_anna`). Plurals are singularised.
    """
    names = [
        PLURALS.get(word, word) for word in re.findall(r"[^\W\d_]+", unicodedata.normalize("NFC", identity).lower())
    ]
    found = [word for word in names if word in CLASS_WORDS]
    if not found:
        return ""
    return found[-1] if found[-1] == names[-1] or len(set(found)) == 1 else ""


def singular(caption: str) -> str:
    """Class words in the plural become singular; everything else stays."""

    def one(match: re.Match) -> str:
        word = PLURALS.get(match[0].lower())
        return match[0] if word is None else word.capitalize() if match[0][0].isupper() else word

    return re.sub(r"[^\W\d_]+", one, unicodedata.normalize("NFC", caption))


def words_in(caption: str) -> list[str]:
    """The class words of a caption, lower case, each once, in order."""
    found = re.findall(r"(?<![\w'\-])[^\W\d_]+(?![\w'\-])", unicodedata.normalize("NFC", caption).lower())
    return list(dict.fromkeys(word for word in found if word in CLASS_WORDS))
