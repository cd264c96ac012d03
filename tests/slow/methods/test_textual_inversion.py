"""Textual inversion: only the word is learned, from where it was told to start; diffusers reads it."""

import io
import itertools

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file
from support.methods import choice, photos, sampler, trial
from support.prompts import encode_prompts
from support.sampling import worst

from pm.errors import ConfigError, RequestError
from pm.methods.textual_inversion import TextualInversionMethod
from pm.model.base import encode_text
from pm.model.prompt import tokenize

FEW = {"steps": 4, "batch_size": 2}


def method(pipeline, train=FEW, **changes) -> TextualInversionMethod:
    return TextualInversionMethod(pipeline, sampler(), choice("textual_inversion", train, **changes))


@pytest.fixture(params=["pipeline", "pipeline_15"])
def any_pipeline(request):
    return request.getfixturevalue(request.param)


def test_without_steps_the_word_means_the_class_word(any_pipeline):
    untouched = method(any_pipeline, {"steps": 0}, subject="a {token}", init="class_word", vectors=1)
    (request,) = untouched.requests(untouched.personalise(photos(), "man", 0), trial(seeds=(7,)), 3)
    base = any_pipeline.base
    learned = encode_prompts(base, [request.prompt], [request.words])
    expected = encode_text(base, tokenize(base.tokenizers, ["a man in a red shirt"]))
    torch.testing.assert_close(learned.embeds, expected.embeds)
    torch.testing.assert_close(learned.pooled, expected.pooled)


def test_cross_initialization_starts_at_the_encoders_output(any_pipeline):
    start = method(any_pipeline, {"steps": 0}, init="cross", vectors=2).personalise(photos(), "woman", 0)
    base = any_pipeline.base
    ids = tokenize(base.tokenizers, ["woman"])
    for encoder, i, found in zip(base.text_encoders, ids, start["embeddings"], strict=True):
        assert found.shape == (2, encoder.config.hidden_size)
        output = encoder(i).last_hidden_state[0, 1]
        torch.testing.assert_close(found, output.expand(2, -1))


def test_references_and_seed_decide_what_is_learned_and_the_base_stays(any_pipeline):
    base = any_pipeline.base
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in (base.unet, *base.text_encoders)]
    tuned = method(any_pipeline)
    first = tuned.personalise(photos(), "man", seed=1)["embeddings"]
    assert all(map(torch.equal, tuned.personalise(photos(), "man", seed=1)["embeddings"], first))
    for references, seed in ((photos(), 2), (photos(seed=5), 1)):
        other = tuned.personalise(references, "man", seed)["embeddings"]
        assert not any(map(torch.equal, other, first))  # the words of all text encoders move
    for was, module in zip(before, (base.unet, *base.text_encoders), strict=True):
        assert all(torch.equal(v, was[k]) for k, v in module.state_dict().items())


def test_regularisation_holds_the_word_near_its_start(pipeline):
    def moved(weight):
        tuned = method(pipeline, {"steps": 20, "batch_size": 2, "lr": 1e-2}, init="cross", regularisation=weight)
        start = method(pipeline, {"steps": 0}, init="cross").personalise(photos(), "man", 0)["embeddings"]
        learned = tuned.personalise(photos(), "man", 0)["embeddings"]
        return sum(float((a - b).norm()) for a, b in zip(learned, start, strict=True))

    assert moved(10.0) < 0.5 * moved(0.0)


def test_it_learns_the_photos(any_pipeline):
    """On one batch, again and again, the loss falls; a base with random weights hears words too little for more."""

    def loss(lr):
        tuned = method(any_pipeline, {"steps": 30, "batch_size": 4, "lr": lr, "masked_loss": 0.0})
        batches = tuned._batches
        tuned._batches = lambda *args: itertools.repeat(next(batches(*args)))
        return tuned.personalise(photos(1), "man", 0)["loss"]

    assert loss(1e-2) < loss(1e-12) - 1e-5


def test_people_in_one_batch_look_as_they_do_alone(pipeline):
    tuned = method(pipeline, FEW | {"lr": 1.0})
    states = [tuned.personalise(photos(seed=seed), "man", seed) for seed in (0, 1)]
    requests = [r for state in states for r in tuned.requests(state, trial(), 3)]
    together = pipeline.generate(requests)
    assert all(worst(a, pipeline.generate([r])[0]) <= 1 for a, r in zip(together, requests, strict=True))
    assert worst(together[0], together[2]) > 1


@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("family", ["tiny_base", "tiny_sd15"])
def test_diffusers_loads_the_word_and_reads_the_same(family, vectors, request, tmp_path):
    pipeline = request.getfixturevalue({"tiny_base": "pipeline", "tiny_sd15": "pipeline_15"}[family])
    ours = method(pipeline, FEW | {"lr": 1.0}, vectors=vectors)
    state = ours.personalise(photos(), "man", 0)
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    (wanted,) = ours.requests(torch.load(stream, weights_only=True), trial(seeds=(1,)), 3)
    file = ours.export(state, tmp_path)
    theirs = DiffusionPipeline.from_pretrained(request.getfixturevalue(family))
    if family == "tiny_sd15":
        theirs.load_textual_inversion(file)  # it says its own name
    else:
        for name, end in (("clip_l", ""), ("clip_g", "_2")):
            theirs.load_textual_inversion(
                load_file(file)[name],
                token=ours.settings.token,
                tokenizer=getattr(theirs, f"tokenizer{end}"),
                text_encoder=getattr(theirs, f"text_encoder{end}"),
            )
    once = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
    embeds, _, *pooled = theirs.encode_prompt(wanted.prompt, **once)
    text = encode_prompts(ours.pipeline.base, [wanted.prompt], [wanted.words])
    torch.testing.assert_close(text.embeds, embeds)
    if pooled:
        torch.testing.assert_close(text.pooled, pooled[0])


def test_what_cannot_be_learned_is_refused(pipeline):
    tuned = method(pipeline)
    with pytest.raises(RequestError, match="class word 'astronaut' is [2-9] tokens of base .* starts from a word"):
        tuned.personalise(photos(), "astronaut", 0)
    with pytest.raises(RequestError, match="no photo of the person is given"):
        tuned.personalise([], "man", 0)
    with pytest.raises(ConfigError, match="subject='a man' lacks {token}"):
        choice("textual_inversion", subject="a man")
    with pytest.raises(ConfigError, match="prompt 'a photo' lacks {person}"):
        choice("textual_inversion", prompts=["a photo"])
    with pytest.raises(ConfigError, match="init='crosss' is not one of class_word, cross"):
        choice("textual_inversion", init="crosss")
