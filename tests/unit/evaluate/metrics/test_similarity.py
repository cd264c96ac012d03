"""Cosines of features: CLIP-T, CLIP-I, DINO and their stand-ins."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.measuring import blurred, pattern, some_batch, trial_of, values_of, write_clip, write_vit

from pm.errors import CheckpointError
from pm.evaluate.metrics.base import Pictures
from pm.evaluate.metrics.clip_i import ClipI
from pm.evaluate.metrics.clip_t import ClipT
from pm.evaluate.metrics.dino import Dino
from pm.evaluate.metrics.effnet_similarity import EffnetSimilarity
from pm.evaluate.metrics.toon_clip_i import ToonClipI
from pm.evaluate.metrics.toon_clip_t import ToonClipT
from pm.evaluate.models.clip import load_clip
from pm.evaluate.models.efficientnet import load_efficientnet
from pm.resources import resource
from pm.toon.attributes import Framing
from pm.toon.captions import caption
from pm.toon.identities import identities, scene
from pm.toon.render import render_photo
from pm.weights import fingerprint

TOON = str(resource("assets/toon"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(write_clip(tmp_path_factory.mktemp("clip") / "tiny-clip"))


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return str(write_vit(tmp_path_factory.mktemp("vit") / "tiny-vit"))


@pytest.fixture(scope="module")
def choices(clip, vit):
    return {
        "clip_t": ClipT("clip_t", clip),
        "clip_i": ClipI("clip_i", clip, "references"),
        "dino": Dino("dino", vit, "references"),
        "effnet_similarity": EffnetSimilarity("effnet_similarity", "references"),
        "toon_clip_t": ToonClipT("toon_clip_t", TOON),
        "toon_clip_i": ToonClipI("toon_clip_i", TOON, "references"),
    }


NAMES = ("clip_t", "clip_i", "dino", "effnet_similarity", "toon_clip_t", "toon_clip_i")


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gives_what_each_alone_gives(name, choices, monkeypatch):
    batch = some_batch()
    together = choices[name].load("cpu").measure(batch)
    for function in ("clip.load_clip", "vit.load_vit", "efficientnet.load_efficientnet", "toon_clip.load_toon_clip"):
        forget(function)  # else what is remembered would answer
    metric = choices[name].load("cpu")
    assert [len(measured.values) for measured in together] == [3, 2]
    for whole, pictures in zip(together, batch, strict=True):
        one_by_one = [
            value
            for image in pictures.images
            for value in metric.measure([dataclasses.replace(pictures, images=[image])])[0].values
        ]
        assert whole.values == pytest.approx(one_by_one, abs=1e-5)


def forget(function: str) -> None:
    import importlib

    module, name = function.split(".")
    getattr(importlib.import_module(f"pm.evaluate.models.{module}"), name).cache_clear()


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("_t")])
def test_the_photo_itself_is_one_and_a_blurred_copy_is_worse(name, choices):
    metric, photo = choices[name].load("cpu"), pattern(3, 120, 120)
    same, little, much = values_of(metric, [photo], [photo, blurred(photo, 1), blurred(photo, 6)])
    assert same == pytest.approx(1, abs=1e-5) and same > little > much
    assert values_of(metric, [photo, pattern(5)], [photo])[0] < 1  # the mean over the photos
    assert values_of(metric, [], [photo]) == []


def test_held_out_photos_can_be_compared_with_instead(choices):
    shown, other = pattern(1), pattern(2)
    metric = dataclasses.replace(choices["clip_i"], against="held_out").load("cpu")
    assert values_of(metric, [shown], [other], held_out=[other]) == [pytest.approx(1, abs=1e-5)]
    assert values_of(metric, [shown], [other]) == []


def test_clip_agrees_with_the_library(choices, clip):
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    model, batch = CLIPModel.from_pretrained(clip).eval(), some_batch()
    prompts = ["a photo of a woman in a red hat", "a man standing on a street"]
    tokens = AutoTokenizer.from_pretrained(clip)(prompts, padding=True, return_tensors="pt")
    for k, (pictures, measured) in enumerate(zip(batch, choices["clip_t"].load("cpu").measure(batch), strict=True)):
        images = [Image.fromarray(image).convert("RGB") for image in pictures.images]
        pixels = CLIPImageProcessorPil.from_pretrained(clip)(images, return_tensors="pt").pixel_values
        with torch.no_grad():
            out = model(**tokens, pixel_values=pixels)
        wanted = out.logits_per_image[:, k] / model.logit_scale.exp()
        assert measured.values == pytest.approx(wanted.tolist(), abs=1e-4)


def test_dino_agrees_with_the_library(choices, vit):
    from transformers import ViTImageProcessorPil, ViTModel

    images = [Image.fromarray(pattern(i)) for i in (1, 2)]
    pixels = ViTImageProcessorPil.from_pretrained(vit)(images, return_tensors="pt").pixel_values
    with torch.no_grad():
        tokens = ViTModel.from_pretrained(vit, add_pooling_layer=False).eval()(pixels).last_hidden_state[:, 0]
    wanted = torch.cosine_similarity(tokens[0], tokens[1], 0).item()
    assert values_of(choices["dino"].load("cpu"), [pattern(1)], [pattern(2)]) == [pytest.approx(wanted, abs=1e-4)]


def test_old_models_without_safetensors_are_read_as_plain_tensors(choices, vit, tmp_path):
    old = str(write_vit(tmp_path / "old", pickled=True))
    new = values_of(choices["dino"].load("cpu"), [pattern(1)], [pattern(2)])
    assert values_of(Dino("dino", old, "references").load("cpu"), [pattern(1)], [pattern(2)]) == pytest.approx(new)


def test_of_a_hub_id_the_pickle_is_fetched_only_where_there_are_no_safetensors(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def download(path, allow_patterns, **_):
        asked.append(allow_patterns[-1])
        write_vit(tmp_path / path, pickled=True)
        if "pytorch_model.bin" not in allow_patterns:
            (tmp_path / path / "pytorch_model.bin").unlink()
        return str(tmp_path / path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    metric = Dino("dino", "owner/old-vit", "references").load("cpu")
    assert asked == ["*.safetensors", "pytorch_model.bin"] and metric.model.name == "owner/old-vit"
    assert values_of(metric, [pattern(1)], [pattern(1)]) == [pytest.approx(1, abs=1e-5)]


def test_half_precision_beside_the_model_is_not_counted(vit, tmp_path):
    import shutil

    folder = Path(shutil.copytree(vit, tmp_path / "tiny-vit"))
    (folder / "model.fp16.safetensors").write_bytes(b"no weights")
    assert (
        Dino("dino", str(folder), "references").load("cpu").model == Dino("dino", vit, "references").load("cpu").model
    )


def test_efficientnet_agrees_with_a_public_implementation():
    """efficientnet-lite-pytorch 0.1.0 gave these, its largest features, for the same picture and weights."""
    features, model = load_efficientnet("cpu")
    (row,) = features([pattern(3, 224, 224)])
    assert row[[1263, 949, 1111, 31, 848, 576]] == pytest.approx(
        np.array([4.70075, 4.60561, 4.40013, 4.30398, 3.50635, 3.30882]), abs=1e-4
    )
    assert float(np.linalg.norm(row)) == pytest.approx(20.421428680419922, abs=1e-3)
    assert model.name == "EfficientNet-lite0 0.1.0"


def test_the_model_is_named_by_its_folder_and_the_bytes_of_its_weights(choices, clip, tmp_path):
    model = choices["clip_t"].load("cpu").model
    assert (model.name, model.fingerprint) == ("tiny-clip", fingerprint(Path(clip) / "model.safetensors"))
    # CLIP-T and CLIP-I share one, and what it has seen.
    assert choices["clip_i"].load("cpu").model == model
    assert load_clip(clip, "cpu").images is choices["clip_i"].load("cpu")._features


def test_the_toon_clip_knows_its_world():
    """Of a drawing's caption and those of other scenes, its own is the nearest, nearly always."""
    import random

    rng, metric = random.Random(0), ToonClipT("toon_clip_t", TOON).load("cpu")
    people = identities(12, 0, "eval")
    scenes = [scene(rng) for _ in people]
    drawn = [render_photo(p, s, Framing(1.1, 0.0, 0.0, 0.0), 64).image for p, s in zip(people, scenes, strict=True)]
    texts = [caption(p, s) for p, s in zip(people, scenes, strict=True)]
    asked = [trial_of([], template=text, word=p.class_word) for text, p in zip(texts, people, strict=True)]
    batch = [Pictures(trial, drawn) for trial in asked]
    cosines = np.array([measured.values for measured in metric.measure(batch)])  # caption × drawing
    assert (cosines.argmax(0) == np.arange(12)).mean() >= 0.75


def test_models_that_cannot_be_had_are_one_clear_line(tmp_path, choices):
    missing = {
        ClipT("clip_t", "nobody/no-such-clip"): "path=nobody/no-such-clip .* Hub .*local copy",
        Dino("dino", str(tmp_path / "nowhere"), "references"): "path=.*nowhere is not a folder",
        ToonClipT("toon_clip_t", str(tmp_path)): "path=.* has no text_projection.safetensors",
    }
    for choice, message in missing.items():
        with pytest.raises(CheckpointError, match=message) as error:
            choice.load("cpu")
        assert "\n" not in str(error.value)


def test_another_kind_of_model_is_refused(vit, clip):
    with pytest.raises(CheckpointError, match="path=.*tiny-vit"):
        ClipT("clip_t", vit).load("cpu")
    with pytest.raises(CheckpointError, match="path=.*tiny-clip"):
        Dino("dino", clip, "references").load("cpu")
