"""Class words, triggers and token places."""

import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import CLIPTokenizer

from pm.errors import DataError, RequestError
from pm.model.class_words import CLASS_WORDS, is_class_word, with_class_words
from pm.model.prompt import class_token_index, class_word_note, mark, parse_prompt, text_ids, tokenize, with_class_word
from pm.model.trigger import put_trigger


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
        ("", "lacks the trigger"),
    ],
)
def test_parse_refuses(written, says):
    with pytest.raises(RequestError, match=says) as caught:
        parse_prompt(written)
    assert "\n" not in str(caught.value)


def test_any_word_may_stand_before_the_trigger_but_is_asked_about():
    prompt = parse_prompt("a table img in a room")
    assert prompt.class_word == "table"
    assert "'table' stands before 'img': is it the word" in class_word_note(prompt, "img", CLASS_WORDS)
    for words in ({"table"}, None, with_class_words(["Table"]), with_class_words(["any"])):
        assert class_word_note(prompt, "img", words) is None
    assert class_word_note(parse_prompt("a man img"), "img", CLASS_WORDS) is None


@pytest.mark.parametrize(
    "word",
    ["businesswoman", "women", "1girl", "2boys", "Policeman", "fire-man", "COWGIRL", "schoolchild", "people", "GUY"],
)
def test_words_made_of_class_words_are_class_words(word):
    prompt = parse_prompt(f"a {word} img in red")
    assert prompt.class_word == word and class_word_note(prompt, "img", CLASS_WORDS) is None


@pytest.mark.parametrize("word", ["table", "german", "talisman", "red", "womanly", "mane", "boyish"])
def test_words_that_only_look_like_class_words_are_asked_about(word):
    assert not is_class_word(word)


@pytest.mark.parametrize(
    ("written", "text", "word"),
    [
        ('a "man img" in red', 'a "man" in red', "man"),
        ('a "man" img in red', 'a "man" in red', "man"),
        ("a (man) img in red", "a (man) in red", "man"),
        ("a [man] img", "a [man]", "man"),
        ("a “woman” img, old", "a “woman”, old", "woman"),
        ("a «man» img", "a «man»", "man"),
        ("a *man* img", "a *man*", "man"),
        ("a man img's hat", "a man's hat", "man"),
        ("a man’s img portrait", "a man’s portrait", "man"),
        ("a man-img in red", "a man in red", "man"),
        ("a man (img) in red", "a man in red", "man"),
        ('a man "img", smiling', "a man, smiling", "man"),
        ("a man img.", "a man.", "man"),
        ("a man img!?", "a man!?", "man"),
        ("(a man img)", "(a man)", "man"),
        ("a man\u00a0img in red", "a man in red", "man"),
    ],
)
def test_punctuation_beside_the_trigger(written, text, word):
    prompt = parse_prompt(written)
    assert (prompt.text, prompt.class_word) == (text, word)
    assert prompt.text[slice(*prompt.span)] == word and not prompt.others


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_accents_in_any_form_are_one_word(tokenizers, form):
    """The decomposed "mán" is m, a, an accent and n; its class word was "n"."""
    prompt = parse_prompt(unicodedata.normalize(form, "a mán img in a café"))
    assert (prompt.class_word, prompt.text) == ("mán", "a mán in a café")
    assert prompt == parse_prompt("a mán img in a café")
    words = with_class_words([unicodedata.normalize(form, "MÁN")])
    assert class_word_note(prompt, "img", words) is None and "'mán'" in class_word_note(prompt, "img", CLASS_WORDS)
    assert mark(unicodedata.normalize(form, "a mán in red"), "mán").span == (2, 5)
    assert parse_prompt("a m̃ąn̄́ img").class_word == "m̃ąn̄́"  # m with a tilde is two characters in every form
    with pytest.raises(RequestError, match="lacks the trigger"):
        parse_prompt("a man im\u0067\u0301")


def test_two_triggers_for_one_person():
    prompt = parse_prompt("a man img in red, the Man img from behind")
    assert prompt.text == "a man in red, the Man from behind"
    assert [prompt.text[slice(*place.span)] for place in prompt.places] == ["man", "Man"]
    with pytest.raises(RequestError, match="2 times, after man and woman; it stands for one person"):
        parse_prompt("a man img and a woman img")


def test_each_person_has_a_trigger_of_their_own():
    found = parse_prompt("a (man img:1.2) and a woman img2, the man img1 smiling", people=2)
    assert found.text == "a man and a woman, the man smiling" and found.class_word == "man"
    words = [(found.text[slice(*place.span)], place.person, place.strength) for place in found.places]
    assert words == [("man", 1, 1.2), ("woman", 2, 1.0), ("man", 1, 1.0)]
    first = parse_prompt("a woman img2 with a man img", people=2)
    assert [place.person for place in first.places] == [2, 1] and first.class_word == "woman"
    assert put_trigger("the woman and a man, a man", "img", people=2) == "the woman img and a man img2, a man"


@pytest.mark.parametrize(
    ("written", "strengths"),
    [
        ("a (man img:1.2) in red", [1.2]),
        ("a (man:1.2) img in red", [1.2]),
        ("a man (img:1.2) in red", [1.2]),
        ("((a man img:1.2) in red:0.5)", [0.6]),
        ("a (man img:0.5), the man img", [0.5, 1.0]),
        ("a man img in (red:1.4)", [1.0]),
    ],
)
def test_the_weight_of_the_class_word_is_the_strength_of_the_identity(written, strengths):
    prompt = parse_prompt(written)
    assert [place.strength for place in prompt.places] == pytest.approx(strengths)
    for place in prompt.places:  # and not one of the text besides
        assert set(prompt.weights[slice(*place.span)]) <= {1.0}
    assert "(" not in prompt.text and ":" not in prompt.text


def test_a_strength_out_of_range_is_refused():
    with pytest.raises(RequestError, match="person's weight 1.6 .* use 0 to 1.5"):
        parse_prompt("a (man img:1.6)")


def test_brackets_of_the_person_in_the_full_syntax():
    assert parse_prompt("a (man img)", weighting="full").strength == pytest.approx(1.1)
    assert parse_prompt("a [man] img", weighting="full").strength == pytest.approx(1 / 1.1)
    assert parse_prompt("a \\(man\\) img", weighting="full").text == "a (man)"
    assert parse_prompt("a (man img:1.2)", weighting="none").text == "a (man:1.2)"


def test_another_class_word_moves_everything_behind_it():
    prompt = parse_prompt("a (man img:1.2) in (red:1.3), the man img BREAK a street")
    changed = with_class_word(prompt, "old woman")
    assert changed == parse_prompt("a old (woman img:1.2) in (red:1.3), the old woman img BREAK a street")
    assert with_class_word(parse_prompt("a man img"), "mán").text == "a mán"
    with pytest.raises(RequestError, match="has no word at its end"):
        with_class_word(prompt, "old!")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a man in a red shirt", "a man img in a red shirt"),
        ("portrait of a businesswoman", "portrait of a businesswoman img"),
        ("a man and a woman", "a man img and a woman"),
        ("a German man", "a German man img"),
        ("a (man:1.2) in red", "a (man img:1.2) in red"),
        ("the woman's hat", "the woman img's hat"),
        ("two women", "two women img"),
        ("a man img in red", "a man img in red"),
        ("put him on a horse", "a man img, put him on a horse"),
        ("make her smile", "a woman img, make her smile"),
        ("in a spacesuit", "a person img, in a spacesuit"),
        ("", "a person img, "),
        ("MAN!", "MAN img!"),
    ],
)
def test_auto_puts_the_trigger_after_the_first_class_word(written, expected):
    assert put_trigger(written, "img") == expected
    assert parse_prompt(expected).class_word


def test_auto_knows_class_words_of_ones_own():
    assert put_trigger("a robot and a man", "sks", {"Robot"}) == "a robot sks and a man"


def test_the_trigger_can_be_another_word():
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
    assert len(text_ids(tokenizers[0], "a heroine")) == index


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
            return len(text_ids(tokenizers[i % 4 // 2], "a man smiling")) == 3
        return all(map(torch.equal, tokenize(tokenizers, ["a man smiling"]), expected))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(2000)))
