"""`caption=template`: a sentence around the folder's class word."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import MinLen

from pm.data.captioning.choice import CaptionChoice, Captioner
from pm.data.captioning.words import folder_class_word
from pm.data.records import Photo
from pm.errors import ConfigError


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
