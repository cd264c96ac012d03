"""All methods on one pipeline: rows of several methods and people sample together as they do alone."""

import pytest
from support.methods import choice, photos, sampler, trial
from support.sampling import worst, write_adapter

from pm.config import from_mapping
from pm.errors import CheckpointError, ConfigError
from pm.methods.base import MethodChoice
from pm.methods.captioned import CaptionedMethod
from pm.methods.dreambooth import DreamBoothMethod
from pm.methods.photomaker import StackedId
from pm.methods.text_only import TextOnlyMethod
from pm.methods.textual_inversion import TextualInversionMethod
from pm.model.config import BaseConfig
from pm.sample.pipeline import PhotoMakerPipeline

FEW = {"steps": 2, "batch_size": 1, "lr": 1.0}


@pytest.fixture(scope="module")
def adapter(tiny_base, tmp_path_factory):
    return write_adapter(tiny_base, tmp_path_factory.mktemp("adapter") / "adapter.safetensors", seed=1)


@pytest.fixture(scope="module")
def methods(tiny_base, adapter):
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base, adapter)
    lora = choice("dreambooth", FEW | {"lr": 0.1}, prior_weight=0.0)
    return [
        TextOnlyMethod(pipeline, sampler()),
        StackedId(pipeline, sampler(), "photomaker"),
        CaptionedMethod(pipeline, sampler(), "{class_word} {name},", None),
        DreamBoothMethod(pipeline, sampler(), lora),
        TextualInversionMethod(pipeline, sampler(), choice("textual_inversion", FEW)),
    ]


def test_rows_of_several_methods_and_people_look_as_they_do_alone(methods):
    requests = []
    for number, (person, word) in enumerate((("anna", "woman"), ("ben", "man"))):
        asked = trial(person, number, (number + 5,), word)
        for method in methods:
            requests += method.requests(method.personalise(asked.references, word, 0), asked, 3)
    pipeline = methods[0].pipeline
    together = pipeline.generate(requests, batch_size=len(requests))
    assert all(worst(a, pipeline.generate([r])[0]) <= 1 for a, r in zip(together, requests, strict=True))
    assert all(worst(together[0], other) > 1 for other in together[1:])


def test_photomaker_takes_the_first_references_of_its_state(methods):
    photomaker = methods[1]
    asked = trial(seeds=(4,))
    state = photomaker.personalise(asked.references, "man", 0)
    (two,) = photomaker.requests(state, asked, 2)
    (fresh,) = photomaker.requests(photomaker.personalise(asked.references[:2], "man", 0), asked, 2)
    assert two.references == fresh.references == 2 and two.prompt == "a man img in a red shirt"
    assert worst(*photomaker.pipeline.generate([two, fresh])) == 0


def test_an_unknown_method_is_told_the_nearest_name():
    with pytest.raises(ConfigError, match="method='dreamboth' is not one of .*; did you mean 'dreambooth'?"):
        from_mapping(MethodChoice, {"name": "dreamboth"})


def test_an_adapter_of_another_base_is_refused(tiny_sd15, adapter):
    base = BaseConfig(str(tiny_sd15), "")
    with pytest.raises(CheckpointError, match="adapter"):
        choice("photomaker", adapter=str(adapter)).load(base, sampler(), "cpu", None)


def test_states_of_the_same_photos_and_seed_are_the_same(methods):
    for method in methods:
        again = [repr(method.personalise(photos(2), "man", 3)) for _ in range(2)]
        assert again[0] == again[1]
