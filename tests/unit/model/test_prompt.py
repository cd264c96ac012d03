"""Class words, triggers and token places."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import CLIPTokenizer

from pm.errors import DataError, RequestError
from pm.model.prompt import class_token_index, mark, parse_prompt, token_count, tokenize


@pytest.fixture(scope="module")
def tokenizers(tiny_base):
    return tuple(CLIPTokenizer.from_pretrained(tiny_base / name) for name in ("tokenizer", "tokenizer_2"))


@pytest.mark.parametrize(
    ("written", "text", "word"),
    [
        ("a man img in a red shirt", "a man in a red shirt", "man"),
        ("portrait of a woman img", "portrait of a woman", "woman"),
        ("a man img, smiling", "a man, smiling", "man"),
        ("a Woman IMG wearing an imgur badge", "a Woman wearing an imgur badge", "Woman"),
        ("a man\n img in a suit", "a man in a suit", "man"),
    ],
)
def test_parse_takes_the_trigger_out(written, text, word):
    prompt = parse_prompt(written)
    assert (prompt.text, prompt.class_word) == (text, word)
    assert prompt.text[slice(*prompt.span)] == word


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("a man in a red shirt", "lacks the trigger"),
        ("img in a red shirt", "no class word before"),
        ("a man, img in a red shirt", "no class word before"),
        ("a man img and a woman img", "2 times"),
        ("a table img in a room", "'table' before 'img' is not a class word"),
        ("", "lacks the trigger"),
    ],
)
def test_parse_refuses(written, says):
    with pytest.raises(RequestError, match=says) as caught:
        parse_prompt(written)
    assert "\n" not in str(caught.value)


def test_class_words_can_be_extended_or_switched_off():
    assert parse_prompt("a robot img", class_words={"robot"}).class_word == "robot"
    assert parse_prompt("a table img", class_words=None).class_word == "table"
    assert parse_prompt("a man sks", trigger="sks").text == "a man"


def test_mark_finds_whole_words_only():
    assert mark("a woman and a man", "man").span == (14, 17)
    assert mark("Man with a hat", "man").class_word == "Man"
    with pytest.raises(DataError, match="lacks the class word 'man'"):
        mark("a woman in a coat", "man")


@pytest.mark.parametrize("text", ["a man in a red shirt", "xyzzy a smiling man", "man", "a quixotic, zany man!"])
def test_class_token_index_points_at_the_last_token_of_the_word(tokenizers, text):
    prompt = mark(text, "man")
    for tokenizer, ids in zip(tokenizers, tokenize(tokenizers, [text]), strict=True):
        index = class_token_index(tokenizer, prompt)
        assert tokenizer.convert_ids_to_tokens(ids[0, index].item()) == "man</w>"


def test_class_word_of_several_tokens_gives_its_last(tokenizers):
    prompt = mark("a heroine in a coat", "heroine")
    index = class_token_index(tokenizers[0], prompt)
    last = tokenizers[0].convert_ids_to_tokens(tokenize(tokenizers, [prompt.text])[0][0, index].item())
    assert last.endswith("e</w>")
    assert token_count(tokenizers[0], "a heroine") == index + 2


def test_class_word_behind_the_last_token_is_refused(tokenizers):
    with pytest.raises(RequestError, match="is token 91; the text encoders see 77"):
        class_token_index(tokenizers[0], mark("red " * 90 + "man", "man"))


def test_tokenize_pads_both_to_their_length(tokenizers):
    first, second = tokenize(tokenizers, ["a man", "red " * 90])
    assert first.shape == second.shape == (2, 77)
    assert first[0, -1] == tokenizers[0].pad_token_id and second[0, -1] == tokenizers[1].pad_token_id
    assert first[1, -1] == tokenizers[0].eos_token_id


def test_threads_do_not_mix_up_padding(tokenizers):
    expected = tokenize(tokenizers, ["a man smiling"])

    def work(i):
        if i % 2:
            return token_count(tokenizers[i % 4 // 2], "a man smiling") == 5
        return all(map(torch.equal, tokenize(tokenizers, ["a man smiling"]), expected))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(2000)))
