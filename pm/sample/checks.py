"""What is wrong with a request, found with the configs of the base alone: loading SDXL takes a minute."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch

from pm.errors import RequestError
from pm.model.adapter_file import AdapterMeta
from pm.model.base import BaseModel
from pm.model.compose.base import ComposeChoice
from pm.model.kinds.base import AdapterChoice, kind_of
from pm.model.long_text import Written, chunks_of, places_of
from pm.model.prompt import Prompt, class_word_note, parse_prompt, plain_prompt, with_class_word
from pm.model.trigger import has_trigger, put_trigger
from pm.model.words import check_words
from pm.sample.controls import check_controls
from pm.sample.fine import check_fine_for, plan_for
from pm.sample.given import check_given, stands_for_prompt
from pm.sample.people import Person, everyone, named
from pm.sample.pictures import check_pictures
from pm.sample.request import Request
from pm.sample.schedule import Schedule


@dataclass(frozen=True)
class Terms:
    """What an adapter asks of a request."""

    trigger_word: str
    max_id_images: int
    compose: ComposeChoice
    merge: str
    kind: type[AdapterChoice]
    tokens_per_photo: int = 1  # before composing
    face_width: int | None = None  # E, of the face embeddings that it takes; None: it takes none

    @classmethod
    def of(cls, meta: AdapterMeta, trigger_word: str | None = None) -> Self:
        """Those of an adapter's metadata; `trigger_word`: another than its own."""
        about = {"compose": meta.compose, "merge": meta.merge, "settings": meta.settings}
        return cls.described(trigger_word or meta.trigger_word, meta.max_id_images, about, meta.kind)

    @classmethod
    def described(cls, trigger_word: str, max_id_images: int, about: Mapping[str, Any], kind: str) -> Self:
        """From what an adapter says of itself: `TrainedAdapter.about`."""
        settings = about.get("settings", {})
        face, tokens = settings.get("face_embedding"), settings.get("tokens_per_photo", 1)
        return cls(
            trigger_word,
            max_id_images,
            about["compose"],
            about["merge"],
            kind_of(kind),
            tokens,
            None if face is None else face["width"],
        )

    def marked(self, prompt: str) -> bool:
        """Whether a prompt has the trigger word."""
        return has_trigger(prompt, self.trigger_word)

    def check(self, request: Request) -> None:
        """Refuse what only other kinds of adapters take.

        Raises:
            RequestError: several people, weights of photos, a scale, or embeddings of faces.
        """
        if request.people and not self.kind.marks_class_word:
            raise RequestError(
                f"{self.kind.title} puts nobody at a place of the prompt; people= is for adapters with a trigger word"
            )
        for number, person in enumerate(everyone(request), 1):
            with named(number, request):
                self._check_person(person)
        if request.scale is not None and not self.kind.has_scale:
            raise RequestError("scale is for adapters with an image prompt; leave it out, or give weights")
        if request.id_strength != 1 and not (self.kind.weighs_photos or self.kind.has_scale):
            raise RequestError(f"{self.kind.title} has no strength of the identity; leave id_strength out")

    def _check_person(self, person: Person) -> None:
        faces = person.face_embeds
        if faces is not None and self.face_width is None:
            raise RequestError("this adapter takes no face embeddings (V2 does); leave id_embeds or face_embeds out")
        if faces is not None and faces.shape[1] != self.face_width:
            raise RequestError(f"face embeddings {list(faces.shape)} given; this adapter takes [N, {self.face_width}]")
        if faces is not None and not bool(torch.isfinite(faces).all()):
            raise RequestError("a face embedding holds NaN or infinity; embed that photo again")
        if person.weights is not None and not self.kind.weighs_photos:
            raise RequestError("this adapter takes no weights of photos; leave them out, or set scale for all of them")

    def repeats(self, count: int) -> int:
        """Tokens the class word takes in the text encoders' input, with `count` ID images."""
        return self.compose.tokens(self.tokens_per_photo * count) if self.merge == "repeat" else 1

    def repeated(self, request: Request, prompt: Prompt) -> tuple[int, ...]:
        """`repeats`, at each place of the prompt."""
        people = everyone(request)
        return tuple(self.repeats(people[place.person - 1].references) for place in prompt.places)


def check_request(
    request: Request, base: BaseModel, terms: Terms | None, schedule: Schedule, class_words: Collection[str] | None
) -> None:
    """Check a request fully, without running a model.

    Args:
        request: learned words, if it has any, need the base's text encoders.
        base: any parts of it, or none, are loaded.
        terms: of the adapter; None: the base alone.
        schedule: of the base.
        class_words: words allowed before the trigger; None allows every word.

    Raises:
        RequestError: it cannot be served.
    """
    most = terms.max_id_images if terms else None
    request.check(max_id_images=most, pixel_step=base.shapes.side_multiple, resolution=base.resolution)
    check_pictures(request)
    check_controls(request.controls)
    if terms is not None:
        terms.check(request)
    if request.words:
        check_words(base, request.words)
    check_fine_for(request, base)
    check_given(request, base, terms)
    plan_for(schedule, request)
    prompt = parsed(request, terms, class_words)
    repeats = terms.repeated(request, prompt) if terms else 1
    # Raises where the class word is repeated too often.
    chunks_of(base, Written(prompt, request.words, repeats, second_prompt(request, prompt, base, terms)))
    for text in (request.negative_prompt, request.negative_prompt_2):
        plain_prompt(text or "", request.prompt_weighting)


def parsed(request: Request, terms: Terms | None, class_words: Collection[str] | None) -> Prompt:
    """A request's prompt, and where its class word is.

    Raises:
        RequestError: no trigger word, no class word before it, or a weight out of range.
    """
    if stands_for_prompt(request):
        return Prompt("", "", (0, 0))
    words = None if request.any_class_word else class_words
    text, weighting = completed(request, terms, words), request.prompt_weighting
    if terms is None or not (terms.kind.marks_class_word or terms.marked(text)):
        return plain_prompt(text, weighting)
    prompt = parse_prompt(text, terms.trigger_word, words, weighting, len(everyone(request)))
    return prompt if request.class_word is None else with_class_word(prompt, request.class_word)


def second_prompt(request: Request, prompt: Prompt, base: BaseModel, terms: Terms | None) -> Prompt | None:
    """What the second text encoder is given instead of the prompt; None: the same.

    The identity takes the class word's place in both encoders' features at once, so that must be one place.

    Raises:
        RequestError: the class word is missing in it, or elsewhere than in the prompt.
    """
    if request.prompt_2 is None:
        return None
    if terms is None or not prompt.class_word:
        return plain_prompt(request.prompt_2, request.prompt_weighting)
    try:
        people = len(everyone(request))
        second = parse_prompt(request.prompt_2, terms.trigger_word, None, request.prompt_weighting, people)
    except RequestError as error:
        raise RequestError(f"prompt_2: {error}") from None
    if [place.person for place in prompt.places] != [place.person for place in second.places]:
        raise RequestError("prompt_2 names people in another order than the prompt; let both name them alike")
    first, other = (places_of(base.tokenizers[0], each) for each in (prompt, second))
    if first != other:
        raise RequestError(
            f"{second.class_word!r} is token {other[0]} of prompt_2, and {prompt.class_word!r} token {first[0]} of the "
            "prompt; let both begin alike up to the class word"
        )
    return second


def completed(request: Request, terms: Terms | None, class_words: Collection[str] | None) -> str:
    """The request's prompt, with the trigger word put in where it shall be."""
    if terms is None or request.trigger != "auto" or not terms.kind.marks_class_word:
        return request.prompt
    return put_trigger(request.prompt, terms.trigger_word, class_words, len(everyone(request)))


def prompt_notes(request: Request, terms: Terms | None, class_words: Collection[str] | None) -> list[str]:
    """What the user should know of how a request's prompt, which can be served, was read."""
    if terms is None or stands_for_prompt(request):
        return []
    text, notes = completed(request, terms, class_words), []
    if text != request.prompt:
        notes.append(f"the prompt has no trigger word; it was read as {text!r}")
    if not request.any_class_word:
        note = class_word_note(parsed(request, terms, class_words), terms.trigger_word, class_words)
        notes += [note] if note else []
    return notes
