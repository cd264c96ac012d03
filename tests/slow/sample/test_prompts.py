"""Long and weighted prompts, strengths and times of the identity: through requests, mixed in one batch."""

import pytest
import torch
from support.sampling import worst, write_fastcomposer, write_ip_adapter

from pm.errors import RequestError
from pm.model.conditioning import Conditioning
from pm.sample import BASE, PhotoMakerPipeline, Request

MAN = "a man img in a red shirt"
LONG = "a photo, " + "red shirt in a photo, " * 26 + "of a man img in a blue shirt"  # in the third chunk
STEPS = 3


@pytest.fixture(scope="module")
def pipe(tiny_base, adapter_files, tmp_path_factory) -> PhotoMakerPipeline:
    folder = tmp_path_factory.mktemp("kinds")
    pipe = PhotoMakerPipeline.from_pretrained(tiny_base, merge_fraction=0.0)
    files = adapter_files | {
        "ip": write_ip_adapter(tiny_base, folder / "ip.safetensors"),
        "fast": write_fastcomposer(tiny_base, folder / "fast.safetensors", rank=2),
    }
    for name, file in files.items():
        pipe.load_photomaker_adapter(file, adapter_name=name)
    return pipe


def row(pipe, prompt=MAN, adapter="one", photos=(), **fields) -> Conditioning:
    (made,) = pipe.prepare([Request(prompt, photos, adapter=adapter, steps=STEPS, **fields)])
    return made.conditioning


def assert_same(a: Conditioning, b: Conditioning):
    for name in ("embeds", "pooled", "text_embeds", "text_pooled"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name))
    assert torch.equal(a.mask, b.mask)


def test_rows_of_all_lengths_and_kinds_in_one_batch_equal_each_alone(pipe, photos):
    requests = [
        Request(MAN, photos[:2], adapter="one", seed=1, steps=STEPS),
        Request(LONG, photos[:3], adapter="one", seed=2, steps=STEPS),
        Request(LONG, photos[:2], adapter="two", seed=3, steps=STEPS),
        Request("a (man img:0.5), the man img smiling", photos[:3], adapter="one", seed=4, steps=STEPS),
        Request("a man img BREAK the (man img:1.3)", photos[1:3], adapter="two", seed=5, steps=STEPS, guidance=1.0),
        Request(MAN, photos[:1], adapter="one", seed=6, steps=STEPS, negative_prompt="ugly (hat:1.4) " * 40),
        Request("a (red:1.5) hat " * 40, adapter=BASE, seed=7, steps=STEPS),
        Request(LONG, photos[:2], adapter="ip", seed=8, steps=STEPS, id_strength=0.5),
        Request(MAN, photos[:2], adapter="one", seed=9, steps=STEPS, id_start=0.3, id_end=0.7),
    ]
    together = pipe.generate(requests, batch_size=len(requests))
    alone = [pipe.generate([request])[0] for request in requests]
    assert max(worst(a, b) for a, b in zip(together, alone, strict=True)) <= 1


@pytest.mark.parametrize("adapter", ["one", "two"])
def test_a_231_token_row_beside_a_77_token_row_is_itself(pipe, photos, adapter):
    long, short = (
        Request(LONG, photos[:2], adapter=adapter, seed=2, steps=STEPS),
        Request(MAN, photos[:2], seed=1, steps=STEPS),
    )
    rows = pipe.prepare([long, short])
    assert rows[0].conditioning.text_embeds.shape[1] == 3 * 77 and rows[1].conditioning.text_embeds.shape[1] == 77
    both, alone = pipe.latents([long, short]), [pipe.latents([request])[0] for request in (long, short)]
    for mixed, single in zip(both, alone, strict=True):
        torch.testing.assert_close(mixed, single, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("adapter", "extra"), [("one", 1), ("two", 0)])
def test_the_identity_is_where_the_class_word_is(pipe, photos, adapter, extra):
    """Two photos in the third chunk: insert makes the text one token longer, repeat does not."""
    merged = row(pipe, LONG, adapter, photos[:2])
    assert merged.embeds.shape[1] == 3 * 77 + extra
    other = row(pipe, LONG, adapter, photos[2:4])
    changed = (merged.embeds != other.embeds).any(-1)[0].nonzero().flatten()
    assert changed.tolist() == [changed[0], changed[0] + 1] and 2 * 77 < changed[0] < 3 * 77


@pytest.mark.parametrize("adapter", ["one", "two", "fast"])
def test_the_class_words_weight_is_the_strength_of_all_photos(pipe, photos, adapter):
    written = row(pipe, "a (man img:1.2) in a red shirt", adapter, photos[:2])
    assert_same(written, row(pipe, MAN, adapter, photos[:2], id_strength=1.2))
    assert_same(written, row(pipe, MAN, adapter, photos[:2], weights=[1.2, 1.2]))
    both = row(pipe, "a (man img:1.2) in a red shirt", adapter, photos[:2], id_strength=0.5, weights=[1.0, 0.5])
    assert_same(both, row(pipe, MAN, adapter, photos[:2], weights=[0.6, 0.3]))


def test_strength_of_an_image_prompt_is_its_scale(pipe, photos):
    half, scaled = row(pipe, MAN, "ip", photos[:2], id_strength=0.5), row(pipe, MAN, "ip", photos[:2], scale=0.5)
    assert half.image.scale.tolist() == scaled.image.scale.tolist() == [0.5]
    assert row(pipe, "a (man img:1.4)", "ip", photos[:2], scale=0.5).image.scale.tolist() == pytest.approx([0.7])


def test_strength_zero_is_the_class_word_alone(pipe, photos):
    none = row(pipe, MAN, "two", photos[:2], id_strength=0.0)
    assert_same(none, row(pipe, MAN, "two", photos[2:4], id_strength=0.0))


@pytest.mark.parametrize(("adapter", "length"), [("one", 79), ("two", 77)])
def test_two_triggers_put_the_same_person_in_twice(pipe, photos, adapter, length):
    once, twice = (
        row(pipe, text, adapter, photos[:2])
        for text in ("a man img in red, the man smiling", "a man img in red, the man img smiling")
    )
    assert twice.embeds.shape[1] == length and once.text_embeds.equal(twice.text_embeds)
    if adapter == "one":  # a man in red, the man: tokens 2 and 7, each of them two then
        torch.testing.assert_close(twice.embeds[:, :8], once.embeds[:, :8])
        assert (twice.embeds[0, 8:10] - once.embeds[0, 8]).abs().amax() > 1e-3
        torch.testing.assert_close(twice.embeds[:, 10:], once.embeds[:, 9:])


def test_the_identity_is_seen_between_two_shares_of_the_steps(pipe, photos):
    def when(**fields):
        (made,) = pipe.prepare([Request(MAN, photos[:1], adapter="one", steps=10, **fields)])
        return made.merge_step, made.merge_end

    assert when() == (0, None)
    assert when(id_start=0.2, id_end=0.8) == (2, 8)
    assert when(merge_step=3, id_end=0.5) == (3, 5)
    never, text = (
        pipe.generate([Request(MAN, photos[:1], adapter="one", steps=4, seed=1, **f)])[0]
        for f in ({"id_start": 0.5, "id_end": 0.5}, {"merge_step": 4})
    )
    assert worst(never, text) == 0
    first = pipe.generate([Request(MAN, photos[:1], adapter="one", steps=4, seed=1, id_end=0.5)])[0]
    whole = pipe.generate([Request(MAN, photos[:1], adapter="one", steps=4, seed=1)])[0]
    assert worst(first, whole) > 0 and worst(first, text) > 0


def test_auto_reads_a_prompt_without_the_trigger_as_one_with(pipe, photos):
    auto = row(pipe, "a (man:1.2) in a red shirt", "one", photos[:2], trigger="auto")
    assert_same(auto, row(pipe, "a (man img:1.2) in a red shirt", "one", photos[:2]))
    request = Request("a man in a red shirt", photos[:1], adapter="one", trigger="auto")
    assert pipe.notes(request) == ["the prompt has no trigger word; it was read as 'a man img in a red shirt'"]
    assert pipe.notes(Request(MAN, photos[:1], adapter="one", trigger="auto")) == []
    assert pipe.notes(Request("a man in red", photos[:1], adapter="ip", trigger="auto")) == []


@pytest.mark.parametrize("word", ["businesswoman", "women", "1girl", "robot"])
def test_every_entrance_takes_the_same_class_words(pipe, photos, word, caplog):
    """`pipe(...)` took any word and the command line refused these."""
    prompt = f"a {word} img in a red shirt"
    called = pipe(
        prompt, input_id_images=photos[:1], num_inference_steps=2, start_merge_step=-1, seed=3, adapter="one"
    ).images[0]
    asked = pipe.generate([Request(prompt, photos[:1], steps=2, merge_step=0, seed=3, adapter="one")])[0]
    assert worst(called, asked) == 0
    assert caplog.text.count("'robot' stands before 'img'") == (2 if word == "robot" else 0)


def test_the_call_takes_all_of_it(pipe, photos):
    called = pipe(
        "a (man) in (red:1.3)",
        input_id_images=photos[:2],
        num_inference_steps=4,
        id_start=0.25,
        id_end=0.75,
        id_strength=0.8,
        prompt_weighting="full",
        trigger="auto",
        adapter="one",
        seed=1,
    ).images[0]
    settings = {"id_start": 0.25, "id_end": 0.75, "id_strength": 0.88, "prompt_weighting": "full"}
    (asked,) = pipe.generate(
        [Request("a man img in (red:1.3)", photos[:2], steps=4, seed=1, adapter="one", **settings)]
    )
    assert worst(called, asked) <= 1


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"id_strength": 1.6}, "id_strength=1.6 is out of range; use 0 to 1.5"),
        ({"id_strength": -0.1}, "id_strength=-0.1"),
        ({"id_strength": float("nan")}, "id_strength=nan"),
        ({"id_strength": "1"}, "id_strength='1'"),
        ({"id_strength": None}, "id_strength=None"),
        ({"id_start": 1.2}, "id_start=1.2 is out of range; use 0 to 1"),
        ({"id_end": -1}, "id_end=-1"),
        ({"id_start": 0.8, "id_end": 0.2}, "id_start=0.8 is after id_end=0.2"),
        ({"id_start": 0.2, "merge_step": 1}, "id_start is given beside merge_step"),
        ({"trigger": "yes"}, "trigger='yes' is not one of required, auto"),
        ({"prompt_weighting": True}, "prompt_weighting=True is not one of explicit, full, none"),
        ({"prompt": None}, "prompt=None must be a text"),
        ({"prompt": "a (man img:9)"}, "person's weight 9"),
        ({"prompt": "a man img (hat:99)"}, "weight 99"),
        ({"negative_prompt": "(hat:99)"}, "weight 99"),
        ({"prompt": "a man img and a woman img"}, "2 times, after man and woman"),
    ],
)
def test_what_is_refused(pipe, photos, fields, says):
    with pytest.raises(RequestError, match=says) as caught:
        pipe.check(Request(**{"prompt": MAN, "id_images": photos[:1], "adapter": "one"} | fields))
    assert "\n" not in str(caught.value)
