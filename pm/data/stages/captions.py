"""Stage 6: a caption, and the word in it that stands for the person (paper section 3.3, "Captioning and marking")."""

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pm.data.captioning.choice import Captioner
from pm.data.captioning.marking.choice import Marker
from pm.data.captioning.words import singular, words_in
from pm.data.records import Photo, groups
from pm.data.stages.stage import Place, Remedy, Stage, Work
from pm.errors import DataError
from pm.model.class_words import PLURALS
from pm.model.prompt import mark
from pm.photo.types import SidecarError


@dataclass(frozen=True)
class Captions(Stage):
    """What `caption=` makes of the photos, marked as `marking=` says."""

    name: ClassVar[str] = "captions"
    remedies: ClassVar[Mapping[str, Remedy]] = {
        "no_class_word": Remedy(
            words="captions need a word for the person (man, woman, ...); caption=template has one"
        ),
        "no_caption": Remedy(words="caption=template needs no captions beside the photos"),
        "no_sidecar": Remedy(words="caption=template needs no captions beside the photos"),
    }

    @property
    def pool(self) -> bool:
        """With a caption model or one that marks."""
        caption, marking = self.config.caption, self.config.marking
        return caption.holds_model or (not caption.marked and marking.holds_model)

    @property
    def gpu(self) -> bool:
        """As `pool`."""
        caption, marking = self.config.caption, self.config.marking
        return caption.uses_gpu or (not caption.marked and marking.uses_gpu)

    def depends(self) -> dict[str, Any]:
        """Both choices."""
        return {"caption": self.config.caption, "marking": self.config.marking}

    def check(self) -> None:
        """Are the models there?"""
        self._parts("cpu")

    def notices(self, identities: Iterable[str]) -> list[str]:
        """The captioner's."""
        return self.config.caption.notices(identities)

    def build(self, place: Place) -> list[Work]:
        """One part."""
        captioner, marker = self._parts(place.device)
        return [Work(self.name, lambda photos: caption_photos(photos, captioner, marker), per_photo=False)]

    def _parts(self, device: str) -> tuple[Captioner, Marker | None]:
        config = self.config
        size = config.workers.batch_size
        captioner = config.caption.build(str(config.dataset.root), device=device, dtype=config.dtype, batch_size=size)
        return captioner, config.marking.build(device=device)


def caption_photos(photos: Sequence[Photo], captioner: Captioner, marker: Marker | None = None) -> list[Photo]:
    """Caption and mark whole identities; each photo's `class_rule` says how its word was chosen.

    - `group`: the caption has the group's most frequent class word.
    - `annotated`: it has not, but the one that the annotations name.
    - `only`: it has one class word, another one.
    - `scored`: it has several others, and `marker` chose (paper section 3.3).
    - `first`: the same, without a marker: the first of them, mostly the sentence's subject.
    - `by_hand`: it was said by hand (`photomaker edit`); the caption may be, too.

    Rejects captions without any class word.
    """
    described = {name: _said(photo) for name, photo in _describe(photos, captioner).items()}
    words = {
        identity: Counter(w for p in members for w in _candidates(described[p.photo]))
        for identity, members in groups(list(described.values())).items()
    }
    return [_marked(described[p.photo], words, marker) if p.photo in described else p for p in photos]


def _said(photo: Photo) -> Photo:
    """With the caption that was written by hand, if one was; a photo that had none is in again."""
    if not photo.hand_caption:
        return photo
    return replace(photo, caption=photo.hand_caption, class_word="", reject=None)


def _describe(photos: Sequence[Photo], captioner: Captioner) -> dict[str, Photo]:
    kept = [p for members in groups(photos).values() for p in members]
    if not hasattr(captioner, "many"):
        return {p.photo: _described(p, captioner) for p in kept}
    texts = zip(kept, captioner.many(kept), strict=True)
    return {p.photo: _no_class_word(p) if text is None else replace(p, caption=singular(text)) for p, text in texts}


def _with_word(photo: Photo, word: str) -> Photo:
    """Marked with a word that was said by hand; where the caption lacks it, it takes the place of the one it has."""
    own = words_in(photo.caption)
    caption = photo.caption
    if own and not re.search(rf"\b{re.escape(word)}\b", caption, re.IGNORECASE):
        caption = re.sub(rf"\b{re.escape(own[0])}\b", word, caption, count=1, flags=re.IGNORECASE)
    try:
        return replace(photo, caption=caption, class_word=mark(caption, word).class_word.lower(), class_rule="by_hand")
    except DataError:
        return _no_class_word(photo)


def _no_class_word(photo: Photo) -> Photo:
    return photo.rejected(Captions.name, "no_class_word", 0, 1)


def _described(photo: Photo, captioner: Captioner) -> Photo:
    try:
        caption, word = captioner(photo)
    except SidecarError as error:
        return photo.rejected(Captions.name, error.reason)
    return replace(photo, caption=singular(caption), class_word=PLURALS.get(word, word))


def _candidates(photo: Photo) -> list[str]:
    """An annotated class word counts alone; else all that stand in the caption."""
    return [photo.class_word] if photo.class_word else words_in(photo.caption)


def _marked(photo: Photo, words: Mapping[str, Counter], marker: Marker | None) -> Photo:
    if photo.reject:
        return photo
    if photo.hand_word:
        return _with_word(photo, photo.hand_word)
    common = words[photo.identity].most_common(1)
    group = common[0][0] if common else ""
    for rule, word in (("group", group), ("annotated", photo.class_word)):
        with contextlib.suppress(DataError):
            if word:
                return replace(photo, class_word=mark(photo.caption, word).class_word.lower(), class_rule=rule)
    own = words_in(photo.caption)
    if not own:
        return _no_class_word(photo)
    if len(own) == 1:
        return replace(photo, class_word=own[0], class_rule="only")
    if marker is None:
        return replace(photo, class_word=own[0], class_rule="first")
    return replace(photo, class_word=marker(photo, own, group), class_rule="scored")
