"""Stage 6: a caption, and the word in it that stands for the person (paper section 3.3, "Captioning and marking")."""

import contextlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from pm.data.config import CaptionConfig
from pm.data.records import Photo, groups
from pm.data.source.beside import read_sidecar, read_text
from pm.errors import DataError
from pm.model.prompt import CLASS_WORDS, mark
from pm.photo.types import SidecarError, SidecarMissing

STAGE = "captions"
_LONGEST = 2**14  # characters; the text encoders read about 300
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
    """Describes a photo: (caption, class word or "" to look for one in the caption).

    One that is fast only with many photos at once also has `many(photos) -> list[str | None]`, captions with a class
    word, None where there is none.
    """

    def __call__(self, photo: Photo) -> tuple[str, str]: ...


class Marker(Protocol):
    """Which of several class words stands for the person, in a caption that lacks the group's."""

    def __call__(self, photo: Photo, words: Sequence[str], group_word: str) -> str: ...


class SidecarCaptioner:
    """Caption and class word from `<photo>.json` beside the photo, or the caption alone from `<photo>.txt`."""

    def __init__(self, root: str | Path):
        self.root = root

    def __call__(self, photo: Photo) -> tuple[str, str]:
        content: dict[str, Any] = {}
        with contextlib.suppress(SidecarMissing):
            content = read_sidecar(self.root, photo.photo)
        caption = content.get("caption")
        if not isinstance(caption, str) or not caption.strip():
            caption = read_text(self.root, photo.photo)
        if caption is None:
            raise SidecarError("no_caption") if content else SidecarMissing()
        if not caption.strip():
            raise SidecarError("no_caption")
        if len(caption) > _LONGEST:
            raise SidecarError("caption_too_long")
        return " ".join(caption.split()), str(content.get("class_word") or "").lower()


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


def make_captioner(
    config: CaptionConfig, root: str | Path, *, dtype: str = "float32", batch_size: int | None = None
) -> Captioner:
    """The captioner that `caption=` names; a model is loaded at the first photo.

    Args:
        config: the choice.
        root: where the photos are, for sidecars.
        dtype: of a model.
        batch_size: of a model; None: measured.

    Raises:
        CheckpointError: the model is missing.
    """
    if config.name == "sidecar":
        return SidecarCaptioner(root)
    if config.name == "blip2":
        from pm.data.captioning.blip2 import Blip2Captioner

        return Blip2Captioner(config, dtype=dtype, batch_size=batch_size)
    return TemplateCaptioner(config.templates)


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


def caption_photos(photos: Sequence[Photo], captioner: Captioner, marker: Marker | None = None) -> list[Photo]:
    """Caption and mark whole identities; each photo's `class_rule` says how its word was chosen.

    - `group`: the caption has the group's most frequent class word.
    - `annotated`: it has not, but the one that the annotations name.
    - `only`: it has one class word, another one.
    - `scored`: it has several others, and `marker` chose (paper section 3.3).
    - `first`: the same, without a marker: the first of them, mostly the sentence's subject.

    Rejects captions without any class word.
    """
    described = _describe(photos, captioner)
    words = {
        identity: Counter(w for p in members for w in _candidates(described[p.photo]))
        for identity, members in groups(list(described.values())).items()
    }
    return [_marked(described[p.photo], words, marker) if p.photo in described else p for p in photos]


def _describe(photos: Sequence[Photo], captioner: Captioner) -> dict[str, Photo]:
    kept = [p for members in groups(photos).values() for p in members]
    if not hasattr(captioner, "many"):
        return {p.photo: _described(p, captioner) for p in kept}
    return {
        p.photo: p.rejected(STAGE, "no_class_word", 0, 1) if text is None else replace(p, caption=singular(text))
        for p, text in zip(kept, captioner.many(kept), strict=True)
    }


def _described(photo: Photo, captioner: Captioner) -> Photo:
    try:
        caption, word = captioner(photo)
    except SidecarError as error:
        return photo.rejected(STAGE, error.reason)
    return replace(photo, caption=singular(caption), class_word=PLURALS.get(word, word))


def _candidates(photo: Photo) -> list[str]:
    """An annotated class word counts alone; else all that stand in the caption."""
    return [photo.class_word] if photo.class_word else words_in(photo.caption)


def _marked(photo: Photo, words: Mapping[str, Counter], marker: Marker | None) -> Photo:
    if photo.reject:
        return photo
    common = words[photo.identity].most_common(1)
    group = common[0][0] if common else ""
    for rule, word in (("group", group), ("annotated", photo.class_word)):
        with contextlib.suppress(DataError):
            if word:
                return replace(photo, class_word=mark(photo.caption, word).class_word.lower(), class_rule=rule)
    own = words_in(photo.caption)
    if not own:
        return photo.rejected(STAGE, "no_class_word", 0, 1)
    if len(own) == 1:
        return replace(photo, class_word=own[0], class_rule="only")
    if marker is None:
        return replace(photo, class_word=own[0], class_rule="first")
    return replace(photo, class_word=marker(photo, own, group), class_rule="scored")
