"""The paper's rule for captions, with a real parser and real models of a few thousand weights."""

import io
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image
from support.tiny_models import write_sentence_model

from pm.data.captioning.marking.auto import Auto
from pm.data.captioning.marking.paper import Paper, PaperMarker, id_region, segments
from pm.data.records import Photo
from pm.data.stages.captions import caption_photos
from pm.errors import CheckpointError, ConfigError
from pm.photo.pixels import encode_png

# Not `importorskip`: the two take ten seconds to import, and every process collects every file.
absent = [name for name in ("spacy", "sentence_transformers") if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}")

# word, head, relation: "a girl in a hat standing next to a man and a dog"
PARSED = [
    ("a", 1, "det"), ("girl", 1, "ROOT"), ("in", 1, "prep"), ("a", 4, "det"), ("hat", 2, "pobj"),
    ("standing", 1, "acl"), ("next", 5, "advmod"), ("to", 6, "prep"), ("a", 9, "det"), ("man", 7, "pobj"),
    ("and", 9, "cc"), ("a", 12, "det"), ("dog", 9, "conj"),
]  # fmt: skip


@pytest.fixture(scope="module")
def parser(tmp_path_factory):
    """A real spaCy parser, trained for a moment on a single sentence."""
    import spacy
    from spacy.training import Example

    words, heads, relations = zip(*PARSED, strict=True)
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("parser", config={"moves": None, "min_action_freq": 1})
    for relation in set(relations):
        pipe.add_label(relation)
    doc = nlp.make_doc(" ".join(words))
    example = Example.from_dict(doc, {"heads": list(heads), "deps": list(relations)})
    spacy.util.fix_random_seed(0)
    optimizer = nlp.initialize(lambda: [example])
    for _ in range(20):
        nlp.update([example], sgd=optimizer)
    folder = tmp_path_factory.mktemp("spacy") / "parser"
    nlp.to_disk(folder)
    return folder


@pytest.fixture(scope="module")
def config(parser, tiny_base, tmp_path_factory):
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    clip = tmp_path_factory.mktemp("clip") / "clip"
    tokenizer = CLIPTokenizer.from_pretrained(tiny_base / "tokenizer")
    tokenizer.save_pretrained(clip)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    CLIPModel(CLIPConfig(text_config=text, vision_config={**sizes, "image_size": 32, "patch_size": 8})).save_pretrained(
        clip
    )
    sentences = write_sentence_model(tmp_path_factory.mktemp("st") / "sentences")
    return Paper(name="paper", parser=str(parser), sentences=str(sentences), clip=str(clip))


def photo(caption: str, number: int = 0) -> Photo:
    crop = np.random.default_rng(number).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[:, :16] = 255
    return Photo("a", f"a/{number}.png", sha256="0" * 64, crop=encode_png(crop), mask=encode_png(mask), caption=caption)


CAPTION = " ".join(word for word, *_ in PARSED)


def test_each_class_word_gets_the_part_of_the_sentence_that_depends_on_it(parser):
    import spacy

    parts = segments(spacy.load(parser), CAPTION, ["girl", "man", "boy"])
    assert parts == {"girl": "a girl in a hat standing next to", "man": "a man and a dog", "boy": "boy"}


def test_the_word_with_the_highest_product_is_marked(config):
    import spacy

    marker = config.build(device="cpu")
    assert isinstance(marker, PaperMarker)
    one = photo(CAPTION)
    parts = segments(spacy.load(config.parser), CAPTION, ["girl", "man"])
    clip = marker.clip_scores(id_region(one), [parts["girl"], parts["man"]])
    likeness = marker.similarities(["girl", "man"], "woman")
    assert clip.shape == likeness.shape == (2,) and (clip >= 0).all() and (likeness <= 1 + 1e-6).all()
    assert marker.similarities(["girl", "man"], "girl")[0] == pytest.approx(1, abs=1e-5)
    assert marker(one, ["girl", "man"], "woman") == ["girl", "man"][int(np.argmax(clip * likeness))]


def test_each_row_says_how_its_word_was_chosen(config):
    captions = ["a woman", "a woman and a man", "a boy", CAPTION]

    def captioner(one):
        return captions[int(one.photo[2])], ""

    photos = [photo("", number) for number in range(4)]
    scored = caption_photos(photos, captioner, config.build(device="cpu"))
    assert [p.class_rule for p in scored] == ["group", "group", "only", "scored"]
    assert [p.class_word for p in scored[:3]] == ["woman", "woman", "boy"] and scored[3].class_word in ("girl", "man")
    plain = caption_photos(photos, captioner, None)
    assert [(p.class_word, p.class_rule) for p in plain[2:]] == [("boy", "only"), ("girl", "first")]


def test_only_the_person_is_left_of_the_picture():
    region = np.asarray(id_region(photo("a man")))
    whole = np.asarray(Image.open(io.BytesIO(photo("a man").crop)))
    assert (region[:, :20] == whole[:, :20]).all() and (region[:, 30:] == 124).all()


def test_what_is_missing_is_named_and_auto_goes_on_without(config, tmp_path):
    import spacy

    absent = replace(config, parser="xx_not_installed")
    with pytest.raises(ConfigError, match=r"spaCy pipeline xx_not_installed.*marking=simple"):
        absent.build(device="cpu")
    auto = Auto("auto", absent.parser, absent.sentences, absent.clip)
    assert auto.build(device="cpu") is None and not auto.holds_model
    assert replace(auto, parser=config.parser).holds_model
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(ConfigError, match="no dependency parser"):
        PaperMarker(replace(config, parser=str(tmp_path / "blank")), "cpu")(photo(CAPTION), ["girl", "man"], "man")
    with pytest.raises(CheckpointError, match="marking.sentences"):
        PaperMarker(replace(config, sentences=str(tmp_path / "blank")), "cpu").similarities(["man"], "man")
