"""The base with a caption of the person's photos in place of the class word (the paper's comparison with SDXL).

What words can say of somebody, without any training. Where the base knows the person, the name can stand there.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pm.data.captioning.choice import CaptionChoice, Captioner
from pm.data.records import Photo as Record
from pm.errors import ConfigError, RequestError
from pm.methods.base import Method, MethodChoice
from pm.methods.photos import check_photos
from pm.methods.pipeline import load_pipeline
from pm.methods.trial import Photo, Trial
from pm.photo.pixels import encode_png
from pm.sample.request import BASE, Request, request_of

if TYPE_CHECKING:
    import torch

    from pm.model.config import BaseConfig
    from pm.sample.config import SamplerConfig
    from pm.sample.pipeline import PhotoMakerPipeline

_FIELDS = ("caption", "class_word", "name")


@dataclass(frozen=True)
class Captioned(MethodChoice):
    subject: str  # the person in prompts, with {caption}, {class_word} or {name}
    caption: CaptionChoice | None  # what describes the photos; None where `subject` has no {caption}

    title: ClassVar[str] = "base with a caption"
    tunes_per_person: ClassVar[bool] = False

    def __post_init__(self) -> None:
        known = set(re.findall(r"{(\w*)}", self.subject))
        if not known or not known <= set(_FIELDS):
            raise ConfigError(f"subject={self.subject!r} must have one of {{caption}}, {{class_word}}, {{name}}")
        if "caption" in known and self.caption is None:
            raise ConfigError(f"subject={self.subject!r} needs a captioner; set caption.name")

    def load(self, base: BaseConfig, sampler: SamplerConfig, device: torch.device, dtype: torch.dtype) -> Method:
        captioner = None
        if self.caption is not None:
            names = str(device).partition(":")[0], str(dtype).rpartition(".")[2]
            captioner = self.caption.build("", device=names[0], dtype=names[1], batch_size=None)
        return CaptionedMethod(load_pipeline(base, sampler, device, dtype), sampler, self.subject, captioner)


class CaptionedMethod(Method):
    """A state holds the caption that most photos have; of several, the first."""

    def __init__(
        self, pipeline: PhotoMakerPipeline, sampler: SamplerConfig, subject: str, captioner: Captioner | None
    ) -> None:
        self.pipeline, self._sampler, self._subject, self._captioner = pipeline, sampler, subject, captioner
        self.about = {"fingerprint": pipeline.base.fingerprint, "subject": subject}

    def personalise(self, references: Sequence[Photo], class_word: str, seed: int) -> dict[str, str]:
        """{"caption": ...}; empty without a captioner.

        Raises:
            RequestError: no references, or one is no picture.
        """
        if self._captioner is None:
            return {"caption": ""}
        captions = described(self._captioner, references, class_word)
        return {"caption": Counter(captions).most_common(1)[0][0]}

    def requests(self, state: Any, trial: Trial, references: int) -> list[Request]:
        known = {
            "caption": noun_phrase(state["caption"], trial.class_word),
            "class_word": trial.class_word,
            "name": trial.person.replace("_", " "),
        }
        prompt = trial.prompt(self._subject.format(**known))
        return [request_of(self._sampler, prompt, adapter=BASE, seed=seed) for seed in trial.seeds]


def described(captioner: Captioner, references: Sequence[Photo], class_word: str) -> list[str]:
    """A caption of each photo that has one.

    Raises:
        RequestError: no photo has any.
    """
    check_photos(references)
    records = []
    for photo in references:
        data = encode_png(photo.image)
        digest = hashlib.sha256(data).hexdigest()
        records.append(Record(f"x_{class_word}", photo.name or digest, sha256=digest, crop=data))
    many = getattr(captioner, "many", None)
    found = [captioner(record)[0] for record in records] if many is None else many(records)
    captions = [caption for caption in found if caption]
    if not captions:
        raise RequestError(f"none of {len(references)} photos got a caption that names a person; use other photos")
    return captions


def noun_phrase(caption: str, class_word: str) -> str:
    """What a caption says of the person: from "a man" on, and "a man, <caption>" where it has another word.

    "a photo of a man with a beard." → "a man with a beard".
    """
    text = caption.strip().rstrip(".")
    between = r"(?:(?!(?:an?|the|of)\b)[\w\-]+,?\s+){0,3}"  # "a smiling young man"
    found = re.search(rf"(?:\b(?:an?|the)\s+{between})?\b{re.escape(class_word)}\b.*", text, re.IGNORECASE)
    if found is not None:
        return found[0]
    article = "an" if class_word[:1].lower() in "aeiou" else "a"
    return f"{article} {class_word}, {text}" if text else f"{article} {class_word}"
