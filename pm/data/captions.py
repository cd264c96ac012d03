"""Stage 6: a caption, and the word in it that stands for the person (paper section 3.3, "Captioning and marking")."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from pm.data.config import CaptionConfig
from pm.data.records import Photo, groups
from pm.data.sidecar import SidecarError, read_sidecar
from pm.errors import DataError
from pm.model.prompt import CLASS_WORDS, mark

STAGE = "captions"
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


class Captioner(Protocol):
    """Describes a photo: (caption, class word or "" to look for one in the caption)."""

    def __call__(self, photo: Photo) -> tuple[str, str]: ...


class SidecarCaptioner:
    """Caption and class word from the annotations beside the photo; the folder's class word where they name none."""

    def __init__(self, root: str | Path):
        self.root = root

    def __call__(self, photo: Photo) -> tuple[str, str]:
        content: dict[str, Any] = read_sidecar(self.root, photo.photo)
        caption = content.get("caption")
        if not isinstance(caption, str) or not caption.strip():
            raise SidecarError("no_caption")
        return caption.strip(), str(content.get("class_word") or "").lower()


class TemplateCaptioner:
    """A sentence around the folder's class word (`anna_woman` → woman); which one depends on the photo's hash only."""

    def __init__(self, templates: Sequence[str]):
        self.templates = list(templates)

    def __call__(self, photo: Photo) -> tuple[str, str]:
        word = folder_class_word(photo.identity)
        template = self.templates[int(photo.sha256[:8], 16) % len(self.templates)]
        article = "an" if word[:1] in "aeiou" else "a"
        caption = re.sub(r"\b([Aa])n? \{word\}", lambda m: f"{m[1]}{article[1:]} {{word}}", template)
        return caption.replace("{word}", word), word


def folder_class_word(identity: str) -> str:
    """The class word at the end of a folder name, "person" where there is none."""
    last = re.split(r"[_\s-]", identity)[-1].lower()
    last = PLURALS.get(last, last)
    return last if last in CLASS_WORDS else "person"


def make_captioner(config: CaptionConfig, root: str | Path) -> Captioner:
    """The captioner that `caption=` names."""
    return SidecarCaptioner(root) if config.name == "sidecar" else TemplateCaptioner(config.templates)


def singular(caption: str) -> str:
    """Class words in the plural become singular; everything else stays."""

    def one(match: re.Match) -> str:
        word = PLURALS.get(match[0].lower())
        return match[0] if word is None else word.capitalize() if match[0][0].isupper() else word

    return re.sub(r"[^\W\d_]+", one, caption)


def words_in(caption: str) -> list[str]:
    """The class words of a caption, lower case, in order."""
    return [w for w in re.findall(r"[^\W\d_]+", caption.lower()) if w in CLASS_WORDS]


def caption_photos(photos: Sequence[Photo], captioner: Captioner) -> list[Photo]:
    """Caption and mark whole identities: the identity's most frequent class word where the caption has it.

    A caption without it is marked at its own first class word. Rejects captions without any.
    """
    described = {p.photo: _described(p, captioner) for members in groups(photos).values() for p in members}
    words = {
        identity: Counter(w for p in members for w in _candidates(described[p.photo]))
        for identity, members in groups(list(described.values())).items()
    }
    return [_marked(described[p.photo], words) if p.photo in described else p for p in photos]


def _described(photo: Photo, captioner: Captioner) -> Photo:
    try:
        caption, word = captioner(photo)
    except SidecarError as error:
        return photo.rejected(STAGE, error.reason)
    return replace(photo, caption=singular(caption), class_word=PLURALS.get(word, word))


def _candidates(photo: Photo) -> list[str]:
    """An annotated class word counts alone; else all that stand in the caption."""
    return [photo.class_word] if photo.class_word else words_in(photo.caption)


def _marked(photo: Photo, words: Mapping[str, Counter]) -> Photo:
    if photo.reject:
        return photo
    common = [word for word, _ in words[photo.identity].most_common(1)]
    for word in [*common, photo.class_word, *words_in(photo.caption)]:
        if word:
            try:
                return replace(photo, class_word=mark(photo.caption, word).class_word.lower())
            except DataError:
                continue
    return photo.rejected(STAGE, "no_class_word")
