"""`caption=template`: a sentence around the folder's class word."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import MinLen

from pm.data.captioning.choice import CaptionChoice, Captioner
from pm.data.captioning.words import class_word_in, folder_class_word
from pm.data.records import Photo
from pm.errors import ConfigError

_EXAMPLES = 5  # named in one line


@dataclass(frozen=True)
class Template(CaptionChoice):
    """One of some sentences, with {word} where the class word goes."""

    templates: Annotated[tuple[str, ...], MinLen(1)]

    marked: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for template in self.templates:
            if "{word}" not in template:
                raise ConfigError(
                    f"caption template {template!r} lacks {{word}}; write for example 'a photo of a {{word}}'"
                )

    def build(self, root: str, *, device: str, dtype: str, batch_size: int | None) -> Captioner:
        """A `TemplateCaptioner`."""
        return TemplateCaptioner(self.templates)

    def notices(self, identities: Iterable[str]) -> list[str]:
        """Which class words the folders' names say, and which say none."""
        words: Counter[str] = Counter()
        without: list[str] = []
        for identity in identities:
            word = class_word_in(identity)
            words[word or "person"] += 1
            if not word and len(without) < _EXAMPLES:
                without.append(identity)
        lines = ["class words of the folders' names: " + ", ".join(f"{w} {n}" for w, n in words.most_common(_EXAMPLES))]
        if without:
            lines.append(
                f"no class word in the name of {', '.join(map(repr, without))}"
                f"{', ...' if len(without) == _EXAMPLES else ''}: captioned as 'person'; for better captions rename "
                f"folders to <name>_<class word>, for example {without[0]}_woman"
            )
        return lines


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
