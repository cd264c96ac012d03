"""Methods of one process share a base: none leaves a trace in it, and it is loaded once."""

import gc

import pytest
import torch
from support.methods import choice, sampler, trial
from support.sampling import write_adapter, write_ip_adapter

from pm.evaluate.maker import Maker, Setup
from pm.methods.base import MethodChoice
from pm.methods.pipeline import add_adapter, load_pipeline
from pm.methods.text_only import TextOnly
from pm.model.config import BaseConfig
from pm.sample.pipeline import PhotoMakerPipeline

FEW = {"steps": 2, "batch_size": 1, "lr": 0.1}
PEOPLE = [trial("anna", 0, (5, 6), "woman"), trial("ben", 1, (7, 8), "man")]
ITEMS = [(0, 0), (1, 0), (1, 1)]
PLAIN = TextOnly("text_only")


@pytest.fixture(scope="module")
def choices(tiny_base, tmp_path_factory) -> list[MethodChoice]:
    folder = tmp_path_factory.mktemp("adapters")
    return [
        choice("dreambooth", FEW | {"gradient_checkpointing": True}, prior_images=2, prior_folder=None),
        choice("textual_inversion", FEW | {"gradient_checkpointing": True}),
        choice("photomaker", adapter=str(write_adapter(tiny_base, folder / "adapter.safetensors", seed=1))),
        choice("ip_adapter", adapter=str(write_ip_adapter(tiny_base, folder / "ip.safetensors"))),
    ]


@pytest.fixture
def loaded(monkeypatch):
    """Every base that is loaded."""
    found, load = [], PhotoMakerPipeline.from_pretrained.__func__

    def noted(cls, *args, **options):
        found.append(load(cls, *args, **options))
        return found[-1]

    monkeypatch.setattr(PhotoMakerPipeline, "from_pretrained", classmethod(noted))
    return found


def worker(base) -> Maker:
    return Maker(Setup(BaseConfig(str(base), ""), sampler(), (), (), "cpu", "float32", tuple(PEOPLE)))


def made(maker, choice) -> list[bytes]:
    """Pictures of two people in one batch, as an evaluation makes them."""
    states = None
    if choice.tunes_per_person:
        states = {person.person: maker.personalise(choice, 2, t).files[0] for t, person in enumerate(PEOPLE)}
    return maker.make(choice, 2, ITEMS, states).files


def look(pipeline) -> dict:
    """All that a method could leave behind in the base."""
    base = pipeline.base
    modules = [base.unet, base.vae, *base.text_encoders]
    return {
        "weights": [{k: v.clone() for k, v in m.state_dict().items()} for m in modules],
        "gradients": [p.requires_grad for m in modules for p in m.parameters()],
        "storage": [p.data_ptr() for m in modules for p in m.parameters()],
        "modes": [
            (type(m), m.training, getattr(m, "gradient_checkpointing", None)) for x in modules for m in x.modules()
        ],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for x in modules for m in x.modules()],
    }


def test_the_base_draws_the_same_before_and_after_every_other_method(tiny_base, choices, loaded):
    maker = worker(tiny_base)
    plain = made(maker, PLAIN)
    before = look(loaded[0])
    together = {}
    for each in choices:
        together[each.name] = made(maker, each)
        assert made(maker, PLAIN) == plain, each.name
        after = look(loaded[0])
        weights, own = before.pop("weights"), after.pop("weights")
        assert all((a[k] == b[k]).all() for a, b in zip(weights, own, strict=True) for k in {**a, **b})
        assert after == before, each.name
        before["weights"] = weights
        assert loaded[0].adapters == ()  # they take no memory any more
    assert len(loaded) == 1
    assert len({files[0] for files in (plain, *together.values())}) == 1 + len(choices)  # each did draw its own

    maker = None
    for each in choices:  # and alone in a process each draws what it drew there
        loaded.clear()
        gc.collect()
        assert made(worker(tiny_base), each) == together[each.name] and len(loaded) == 1, each.name


def test_another_base_schedule_or_precision_is_another_pipeline(tiny_base, tiny_sd15):
    base = BaseConfig(str(tiny_base), "")
    first = load_pipeline(base, sampler(), "cpu", torch.float32)
    assert load_pipeline(base, sampler(steps=9), "cpu", torch.float32) is first
    assert load_pipeline(base, sampler(), "cpu", torch.bfloat16) is not first
    assert load_pipeline(BaseConfig(str(tiny_sd15), ""), sampler(), "cpu", torch.float32) is not first


def test_adapters_of_several_methods_have_names_of_their_own(tiny_base, choices):
    pipeline = load_pipeline(BaseConfig(str(tiny_base), ""), sampler(), "cpu", torch.float32)
    names = [add_adapter(pipeline, choices[2].adapter) for _ in range(2)]
    assert len(set(names)) == 2 and set(names) <= set(pipeline.adapters)
