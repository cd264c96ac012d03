"""Prompts in chunks: what fits is encoded as ever, what does not is several texts in a row."""

import pytest
import torch
from support.prompts import encode_prompts

from pm.errors import RequestError
from pm.model.base import encode_text, load_base
from pm.model.long_text import Written, chunks_of, encode_written
from pm.model.prompt import parse_prompt, plain_prompt, text_ids, tokenize
from pm.model.words import LearnedWord

RED = "red " * 74  # with one more word a whole chunk


@pytest.fixture(scope="module", params=["tiny_base", "tiny_sd15"])
def base(request):
    return load_base(request.getfixturevalue(request.param), ("text",))


def whole(base, text):
    """As before: the tokenizer pads and cuts."""
    return encode_text(base, tokenize(base.tokenizers, [text]))


def encoded(base, text, repeats=1):
    (found,) = encode_written(base, [Written(parse_prompt(text), {}, repeats)])
    return found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a man in a red shirt",
        "A Mán’s café, 1girl & 2 boys! (smiling) [dark] :) — it's 10:30",
        "a (16:9) photo\nof the king's hat  ",
        RED + "shirt",
        "😀 漢字 ünïcödé",
        "BREAKING news",
    ],
)
def test_a_prompt_that_fits_is_encoded_as_ever(base, text):
    ours, before = encode_prompts(base, [text]), whole(base, text)
    assert torch.equal(ours.embeds, before.embeds) and torch.equal(ours.pooled, before.pooled)


@pytest.mark.parametrize("tokens", [75, 76, 150, 151, 225])
def test_a_longer_one_is_its_chunks_in_a_row(base, tokens):
    words = (["red", "shirt", "in", "a", "man"] * 45)[:tokens]
    found = encode_prompts(base, [" ".join(words)])
    parts = [whole(base, " ".join(words[i : i + 75])) for i in range(0, tokens, 75)]
    torch.testing.assert_close(found.embeds, torch.cat([part.embeds for part in parts], 1))
    torch.testing.assert_close(found.pooled, parts[0].pooled)
    assert chunks_of(base, Written(plain_prompt(" ".join(words)), {})) == len(parts)


@pytest.mark.parametrize("before", [0, 10, 73, 74, 75, 80, 149, 150])
@pytest.mark.parametrize("repeats", [1, 3])
def test_the_class_word_keeps_its_place(base, before, repeats):
    """Where it is repeated, all its tokens are in one chunk, also at the edge of one."""
    found = encoded(base, "red " * before + "man img in a shirt", repeats)
    (place,) = found.places
    chunk, inside = divmod(place, 77)
    assert inside >= 1 and inside + repeats <= 76  # between start and end token
    fits = before % 75 + repeats <= 75
    count = before % 75 if fits else 0
    assert (chunk, inside) == (before // 75 + (not fits), 1 + count)
    alone = whole(base, "red " * count + "man " * repeats + "in a shirt")
    mine = found.text.embeds[0, 77 * chunk : 77 * (chunk + 1)]
    if count + repeats + 3 <= 75:
        torch.testing.assert_close(mine, alone.embeds[0])


def test_a_class_word_of_several_tokens_is_not_cut(base):
    word = text_ids(base.tokenizers[0], "heroine")
    assert len(word) > 1
    found = encoded(base, "red " * 74 + "heroine img in red")
    assert found.places == (77 + len(word),)
    torch.testing.assert_close(found.text.embeds[:, 77:], whole(base, "heroine in red").embeds)


def test_more_repeats_than_a_chunk_holds_are_refused(base):
    assert encoded(base, "a man img", 75).places == (78,)  # "a" alone, then the man
    with pytest.raises(
        RequestError, match="class word 'man' has 76 tokens, repeated for 76 identity tokens; at most 75"
    ):
        chunks_of(base, Written(parse_prompt("a man img"), {}, 76))


def test_break_pads_a_chunk_out(base):
    found = encode_prompts(base, ["a man in red BREAK a blue hat"])
    parts = [whole(base, text) for text in ("a man in red", "a blue hat")]
    torch.testing.assert_close(found.embeds, torch.cat([part.embeds for part in parts], 1))
    after = encoded(base, "a street BREAK the man img in red")
    assert after.places == (77 + 2,)


def test_a_batch_of_all_lengths_equals_one_by_one(base):
    texts = ["a man in red", RED * 2 + "(shirt:1.3)", "a BREAK (b:0.5) BREAK c", "", RED + "shirt", "(a shirt:1.5)"]
    together = encode_written(base, [Written(plain_prompt(text), {}) for text in texts])
    for text, each in zip(texts, together, strict=True):
        (alone,) = encode_written(base, [Written(plain_prompt(text), {})])
        torch.testing.assert_close(each.text.embeds, alone.text.embeds)
        torch.testing.assert_close(each.text.pooled, alone.text.pooled)


def test_weights_move_tokens_along_the_line_from_the_empty_text(base):
    plain, empty = whole(base, "a red shirt in a photo").embeds[0], whole(base, "").embeds[0]
    for weight in (0.0, 0.5, 1.3, 2.0):
        found = encode_prompts(base, [f"a (red shirt:{weight}) in a photo"])
        expected = plain.clone()
        expected[2:4] = empty[2:4] + weight * (plain[2:4] - empty[2:4])
        torch.testing.assert_close(found.embeds[0], expected)
        torch.testing.assert_close(found.pooled, whole(base, "a red shirt in a photo").pooled)
    assert torch.equal(encode_prompts(base, ["a (red shirt:1.0) in a photo"]).embeds[0], plain)


def test_weights_reach_the_right_tokens_of_later_chunks(base):
    written = RED + "shirt, a (blue hoodie:1.5) BREAK (x:0.7)"
    plain, found = (encode_prompts(base, [t]).embeds[0] for t in (RED + "shirt, a blue hoodie BREAK x", written))
    moved = (found - plain).abs().amax(-1) > 1e-6
    assert moved.nonzero().flatten().tolist() == [77 + 3, 77 + 4, 2 * 77 + 1]


def test_learned_words_have_weights_and_stay_together(base):
    widths = [encoder.get_input_embeddings().embedding_dim for encoder in base.text_encoders]
    word = LearnedWord(tuple(torch.randn(4, width) for width in widths))
    found = encode_prompts(base, ["red " * 73 + "<it> in a (shirt:1.2) (<it>:1.3)"], [{"<it>": word}])
    first = encode_prompts(base, ["red " * 73])
    torch.testing.assert_close(found.embeds[:, :77], first.embeds)
    plain = encode_prompts(base, ["<it> in a shirt <it>"], [{"<it>": word}]).embeds[0]
    moved = (found.embeds[0, 77:] - plain).abs().amax(-1) > 1e-6
    assert moved.nonzero().flatten().tolist() == [7, 8, 9, 10, 11]
