"""All methods on one pipeline: rows of several methods and people sample together as they do alone."""

import pytest
from support.methods import choice, photos, sampler, trial
from support.sampling import worst, write_adapter, write_fastcomposer, write_ip_adapter

from pm.config import from_mapping
from pm.errors import CheckpointError, ConfigError
from pm.methods.base import MethodChoice
from pm.methods.captioned import CaptionedMethod
from pm.methods.dreambooth import DreamBoothMethod
from pm.methods.ip_adapter import ImagePrompted
from pm.methods.photomaker import StackedId
from pm.methods.text_only import TextOnlyMethod
from pm.methods.textual_inversion import TextualInversionMethod
from pm.model.base import load_base
from pm.model.config import BaseConfig
from pm.sample.pipeline import PhotoMakerPipeline

FEW = {"steps": 2, "batch_size": 1, "lr": 1.0}


@pytest.fixture(scope="module")
def adapter(tiny_base, tmp_path_factory):
    return write_adapter(tiny_base, tmp_path_factory.mktemp("adapter") / "adapter.safetensors", seed=1)


@pytest.fixture(scope="module")
def methods(tiny_base, adapter):
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base, adapter)
    others = {"ip": write_ip_adapter, "fc": write_fastcomposer}
    for name, write in others.items():
        pipeline.load_photomaker_adapter(write(tiny_base, adapter.parent / f"{name}.safetensors"), adapter_name=name)
    lora = choice("dreambooth", FEW | {"lr": 0.1}, prior_weight=0.0)
    return [
        TextOnlyMethod(pipeline, sampler()),
        StackedId(pipeline, sampler(), "photomaker"),
        CaptionedMethod(pipeline, sampler(), "{class_word} {name},", None),
        DreamBoothMethod(pipeline, sampler(), lora),
        TextualInversionMethod(pipeline, sampler(), choice("textual_inversion", FEW)),
        ImagePrompted(pipeline, sampler(), 0.7, "ip"),
        StackedId(pipeline, sampler(), "fc"),
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


def test_scale_reaches_the_requests_and_the_report(methods):
    image = methods[5]
    asked = trial(seeds=(4, 5))
    state = image.personalise(asked.references, "man", 0)
    assert [r.scale for r in image.requests(state, asked, 1)] == [0.7, 0.7]
    assert image.about["scale"] == 0.7 and image.about["merge"] == "attention"


@pytest.mark.parametrize("method", ["ip_adapter", "fastcomposer"])
def test_an_adapter_of_another_kind_is_refused_before_anything_is_loaded(tiny_base, adapter, method):
    with pytest.raises(ConfigError, match=f"method={method} needs an adapter of the kind {method}.* is a photomaker"):
        choice(method, adapter=str(adapter)).check(load_base(tiny_base, ()), 1)


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
