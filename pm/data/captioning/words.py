"""The words of captions that stand for a person."""

import re
from collections.abc import Mapping

from pm.model.prompt import CLASS_WORDS

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


def folder_class_word(identity: str) -> str:
    """The class word at the end of a folder name, "person" where there is none."""
    last = re.split(r"[_\s-]", identity)[-1].lower()
    last = PLURALS.get(last, last)
    return last if last in CLASS_WORDS else "person"


def singular(caption: str) -> str:
    """Class words in the plural become singular; everything else stays."""

    def one(match: re.Match) -> str:
        word = PLURALS.get(match[0].lower())
        return match[0] if word is None else word.capitalize() if match[0][0].isupper() else word

    return re.sub(r"[^\W\d_]+", one, caption)


def words_in(caption: str) -> list[str]:
    """The class words of a caption, lower case, each once, in order."""
    found = re.findall(r"(?<![\w'\-])[^\W\d_]+(?![\w'\-])", caption.lower())
    return list(dict.fromkeys(word for word in found if word in CLASS_WORDS))
