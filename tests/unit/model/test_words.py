"""Learned words: what the encoders are given is what was learned, row by row, and nothing shared is touched."""

import pytest
import torch
from support.prompts import encode_prompts

from pm.errors import RequestError
from pm.model.base import encode_text, load_base
from pm.model.prompt import tokenize
from pm.model.words import LearnedWord, check_words, tokenize_words, with_learned


@pytest.fixture(scope="module", params=["tiny_base", "tiny_sd15"])
def base(request):
    return load_base(request.getfixturevalue(request.param), ("text",))


def word_of(base, tokens=2, seed=0) -> LearnedWord:
    generator = torch.Generator().manual_seed(seed)
    widths = [e.get_input_embeddings().embedding_dim for e in base.text_encoders]
    return LearnedWord(tuple(torch.randn(tokens, width, generator=generator) for width in widths))


def known(base, text) -> LearnedWord:
    """The word that the base's own tokens of a text are."""
    ids = [t(text, add_special_tokens=False).input_ids for t in base.tokenizers]
    tables = [e.get_input_embeddings().weight.detach() for e in base.text_encoders]
    return LearnedWord(tuple(table[i] for table, i in zip(tables, ids, strict=True)))


def assert_same(a, b):
    torch.testing.assert_close(a.embeds, b.embeds)
    torch.testing.assert_close(a.pooled, b.pooled)


@pytest.mark.parametrize("text", ["man", "man wearing a hat", "sks"])
def test_a_word_with_the_embeddings_of_known_tokens_reads_as_they_do(base, text):
    prompt = "a photo of a {}, smiling"
    learned = encode_prompts(base, [prompt.format("<it>")], [{"<it>": known(base, text)}])
    assert_same(learned, encode_text(base, tokenize(base.tokenizers, [prompt.format(text)])))


def test_a_batch_of_several_peoples_words_equals_one_by_one(base):
    texts = ["a <a> in red", "no word here", "<b> and <a>", "a <a> smiling"]
    words = [{"<a>": word_of(base, 2, 1)}, {}, {"<a>": word_of(base, 1, 2), "<b>": word_of(base, 3, 3)}]
    words.append({"<a>": word_of(base, 1, 4)})  # another person under the same name
    together = encode_prompts(base, texts, words)
    for i, (text, mine) in enumerate(zip(texts, words, strict=True)):
        assert_same(together.rows([i]), encode_prompts(base, [text], [mine]))
    assert not torch.allclose(together.embeds[0], together.embeds[3])


def test_encoders_and_tokenizers_stay_as_they_are(base):
    before = encode_text(base, tokenize(base.tokenizers, ["a <a> in red"]))
    encode_prompts(base, ["a <a> in red"], [{"<a>": word_of(base)}])
    assert_same(encode_text(base, tokenize(base.tokenizers, ["a <a> in red"])), before)


def test_gradients_reach_the_learned_rows_of_every_encoder_and_nothing_else(base):
    word = word_of(base)
    ids, tables = tokenize_words(base.tokenizers, ["a <a> in red"], [{"<a>": word}])
    tables = [table.requires_grad_() for table in tables]
    encoders = [with_learned(e, table) for e, table in zip(base.text_encoders, tables, strict=True)]
    base.family.encode(encoders, ids).embeds.square().sum().backward()
    assert all(table.grad.abs().sum() > 0 for table in tables)
    assert all(p.grad is None for e in base.text_encoders for p in e.parameters())


def test_texts_that_are_too_long_are_cut_in_training(base):
    long, _ = tokenize_words(base.tokenizers, ["<a> " * 60], [{"<a>": word_of(base, 3)}])
    assert all(i.shape == (1, 77) and i[0, -1] == t.eos_token_id for i, t in zip(long, base.tokenizers, strict=True))


def test_words_of_another_base_and_odd_names_are_refused(base):
    check_words(base, {"<a>": word_of(base)})
    with pytest.raises(RequestError, match="learned word 'a' must be .* in angle brackets"):
        check_words(base, {"a": word_of(base)})
    wrong = LearnedWord(tuple(e[:, 1:] for e in word_of(base).embeddings))
    with pytest.raises(RequestError, match="learned word <a> has embeddings .* learn it on this base"):
        check_words(base, {"<a>": wrong})
