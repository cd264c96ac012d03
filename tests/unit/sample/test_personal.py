"""Requests that bring something of a person to the base: learned words in the prompt, a LoRA in the U-Net."""

import dataclasses

import pytest
import torch
from support.sampling import TARGETS, worst

from pm.errors import RequestError
from pm.model.fused import FusedLora
from pm.model.lora import add_lora, lora_parameters
from pm.model.shared import shared_copy
from pm.model.words import LearnedWord
from pm.sample import BASE, PhotoMakerPipeline, Request


@pytest.fixture(scope="module")
def pipeline(tiny_base, adapter_files) -> PhotoMakerPipeline:
    return PhotoMakerPipeline.from_pretrained(tiny_base, adapter_files["one"])


def a_lora(pipeline, seed) -> FusedLora:
    unet = shared_copy(pipeline.plain_unet())
    add_lora(unet, 2, TARGETS)
    generator = torch.Generator().manual_seed(seed)
    state = {k: torch.randn(v.shape, generator=generator) * 0.2 for k, v in lora_parameters(unet, "unet.").items()}
    return FusedLora(pipeline.base.unet, "unet.", state)


def a_word(pipeline, seed) -> LearnedWord:
    generator = torch.Generator().manual_seed(seed)
    widths = [e.get_input_embeddings().embedding_dim for e in pipeline.base.text_encoders]
    return LearnedWord(tuple(torch.randn(1, width, generator=generator) for width in widths))


def plain(prompt="a man in a red shirt", **fields) -> Request:
    return Request(prompt, steps=3, seed=3, adapter=BASE, **fields)


def test_rows_of_several_people_and_ways_sample_together_as_they_do_alone(pipeline, photos):
    requests = [
        plain(),
        plain(lora=a_lora(pipeline, 1)),
        plain(lora=a_lora(pipeline, 2)),
        plain("a <p> in a red shirt", words={"<p>": a_word(pipeline, 1)}),
        plain("a <p> in a red shirt", words={"<p>": a_word(pipeline, 2)}),
        Request("a man img in a red shirt", photos[:2], steps=3, merge_step=1, seed=3),
    ]
    together = pipeline.generate(requests)
    alone = [pipeline.generate([request])[0] for request in requests]
    assert all(worst(a, b) <= 1 for a, b in zip(together, alone, strict=True))
    assert all(worst(together[0], other) > 1 for other in together[1:])
    assert worst(together[1], together[2]) > 1 and worst(together[3], together[4]) > 1


def test_the_u_net_is_the_bases_own_whoever_was_drawn_last(pipeline):
    before = pipeline.generate([plain()])[0]
    pipeline.generate([plain(lora=a_lora(pipeline, 1))])
    weights = {k: v.clone() for k, v in pipeline.plain_unet().state_dict().items()}
    assert worst(pipeline.generate([plain()])[0], before) == 0
    assert all(torch.equal(v, weights[k]) for k, v in pipeline.plain_unet().state_dict().items())


@pytest.mark.parametrize("extra", ["words", "lora"])
def test_an_adapter_takes_neither(pipeline, photos, extra):
    value = {"<p>": a_word(pipeline, 1)} if extra == "words" else a_lora(pipeline, 1)
    request = Request("a man img in red", photos[:1], **{extra: value})
    with pytest.raises(RequestError, match="need the base alone"):
        pipeline.check(request)


def test_long_words_count(pipeline):
    word = LearnedWord(tuple(e.expand(80, -1) for e in a_word(pipeline, 1).embeddings))
    with pytest.raises(RequestError, match="a learned word has 80 tokens; at most 75 fit"):
        pipeline.check(plain("a <p>", words={"<p>": word}))
    pipeline.check(dataclasses.replace(plain("a man"), words={"<p>": word}))
