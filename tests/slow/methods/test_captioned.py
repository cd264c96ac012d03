"""The base with a caption: which words of a caption say who it is, and whose caption counts."""

import random

import pytest
from support.methods import choice, photos, sampler, trial

from pm.config import from_mapping
from pm.data.captioning.choice import CaptionChoice
from pm.errors import ConfigError, RequestError
from pm.methods.captioned import CaptionedMethod, described, noun_phrase
from pm.methods.trial import Photo
from pm.resources import resource
from pm.toon.captions import traits
from pm.toon.identities import framing, identities, scene
from pm.toon.render import render_photo


class Says:
    """A captioner of given captions, one photo after the other."""

    def __init__(self, *captions):
        self.captions = list(captions)

    def many(self, records):
        assert all(record.crop[:4] == b"\x89PNG" for record in records)
        return self.captions[: len(records)]


def method(pipeline, captioner, subject="{caption},") -> CaptionedMethod:
    return CaptionedMethod(pipeline, sampler(), subject, captioner)


@pytest.mark.parametrize(
    "caption, phrase",
    [
        ("a photo of a man with a beard.", "a man with a beard"),
        ("A smiling young man, in a hat", "A smiling young man, in a hat"),
        ("portrait of the man of the house", "the man of the house"),
        ("somebody with red hair, a man", "a man"),
        ("a person in a park", "a man, a person in a park"),
        ("a woman and a manager", "a man, a woman and a manager"),
        ("", "a man"),
    ],
)
def test_the_noun_phrase_of_the_person(caption, phrase):
    assert noun_phrase(caption, "man") == phrase


def test_the_caption_that_most_photos_have_stands_in_the_prompt(pipeline):
    ours = method(pipeline, Says("a man with red hair", None, "a man, old"))
    assert ours.personalise(photos(3), "man", 0) == {"caption": "a man with red hair"}
    ours = method(pipeline, Says("a man", "a man with red hair", "a man with red hair"))
    state = ours.personalise(photos(3), "man", 0)
    first, second = ours.requests(state, trial(seeds=(4, 5)), 3)
    assert first.prompt == second.prompt == "a man with red hair, in a red shirt" and (first.seed, second.seed) == (
        4,
        5,
    )


def test_a_name_needs_no_captioner(pipeline):
    settings = choice("captioned", subject="{class_word}, {name},", caption=None)
    named = CaptionedMethod(pipeline, sampler(), settings.subject, None)
    (request,) = named.requests(named.personalise([], "man", 0), trial("isaac_newton", seeds=(1,)), 0)
    assert request.prompt == "man, isaac newton, in a red shirt"


def test_the_probe_says_who_is_drawn():
    """On drawings of unseen people: the very words that the base was trained with."""
    captioner = from_mapping(
        CaptionChoice, {"name": "probe", "path": str(resource("assets/toon/probe.safetensors"))}
    ).build("", device="cpu", dtype="float32", batch_size=None)
    rng, right = random.Random(0), 0
    for person in identities(12, 1, "eval"):
        shown = [render_photo(person, scene(rng), framing(rng)) for _ in range(3)]
        captions = described(captioner, [Photo(p.image, None) for p in shown], person.class_word)
        right += sum(caption == f"a {person.class_word} with {traits(person)}" for caption in captions)
    assert right >= 30  # of 36


def test_what_cannot_be_captioned_is_refused(pipeline):
    with pytest.raises(RequestError, match="none of 2 photos got a caption"):
        method(pipeline, Says(None, None)).personalise(photos(2), "man", 0)
    with pytest.raises(RequestError, match="no photo of the person is given"):
        method(pipeline, Says()).personalise([], "man", 0)
    with pytest.raises(ConfigError, match="subject='a man' must have one of"):
        choice("captioned", subject="a man")
    with pytest.raises(ConfigError, match="subject='{captoin}' must have one of"):
        choice("captioned", subject="{captoin}")
    with pytest.raises(ConfigError, match="needs a captioner; set caption.name"):
        choice("captioned", caption=None)
