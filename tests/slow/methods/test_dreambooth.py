"""DreamBooth: nothing without steps, the same from the same, the base untouched; diffusers reads what it learned."""

import io

import pytest
import torch
from diffusers import DiffusionPipeline
from support.methods import choice, photos, sampler, section, trial
from support.sampling import worst

from pm.errors import ConfigError, RequestError
from pm.methods.dreambooth import DreamBoothMethod
from pm.methods.learn import fit
from pm.methods.prior import class_latents
from pm.sample.request import BASE, Request

FEW = {"steps": 4, "batch_size": 2}


def method(pipeline, train=FEW, **changes) -> DreamBoothMethod:
    settings = {"prior_images": 2, "prior_folder": None, "rank": 2}
    return DreamBoothMethod(pipeline, sampler(), choice("dreambooth", train, **settings | changes))


@pytest.fixture(scope="module")
def tuned(pipeline):
    return method(pipeline)


@pytest.fixture(scope="module")
def state(tuned):
    return tuned.personalise(photos(), "man", seed=1)


def test_without_steps_the_picture_is_the_bases(pipeline):
    untouched = method(pipeline, {"steps": 0})
    (request,) = untouched.requests(untouched.personalise(photos(), "man", 0), trial(seeds=(7,)), 3)
    plain = Request("a sks man in a red shirt", steps=3, guidance=3.0, merge_step=0, seed=7, adapter=BASE)
    assert request.prompt == plain.prompt
    assert worst(*pipeline.generate([request, plain])) == 0


def test_references_and_seed_decide_what_is_learned_and_the_base_stays(tuned, state, pipeline):
    before = {k: v.clone() for k, v in pipeline.base.unet.state_dict().items()}
    random = torch.get_rng_state()
    again = tuned.personalise(photos(), "man", seed=1)["lora"]
    assert all(torch.equal(again[k], v) for k, v in state["lora"].items())
    for other in (tuned.personalise(photos(), "man", 2), tuned.personalise(photos(seed=5), "man", 1)):
        assert any(not torch.equal(other["lora"][k], v) for k, v in state["lora"].items())
    after = pipeline.base.unet.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[k], v) for k, v in before.items())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("name", ["pipeline", "pipeline_15"])
def test_it_learns_the_photos(name, request):
    """The same noise at the same steps, with a rate and without: the difference is what was learned."""
    losses = []
    for lr in (1e-2, 1e-12):
        train = {"steps": 30, "batch_size": 2, "lr": lr}
        tuned = method(request.getfixturevalue(name), train, prior_weight=0.0, rank=4)
        losses.append(tuned.personalise(photos(1), "man", 0)["loss"])
    assert losses[0] < 0.99 * losses[1]


def test_people_in_one_batch_look_as_they_do_alone(tuned, state):
    other = tuned.personalise(photos(seed=3), "woman", seed=1)
    requests = [*tuned.requests(state, trial(), 3), *tuned.requests(other, trial(class_word="woman"), 3)]
    assert len({id(r.lora) for r in requests}) == 2  # one adapter a person: rows of one share the U-Net's call
    together = tuned.pipeline.generate(requests)
    assert all(worst(a, tuned.pipeline.generate([r])[0]) <= 1 for a, r in zip(together, requests, strict=True))
    assert worst(together[0], together[2]) > 0


def test_a_state_is_plain_data(tuned, state):
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    read = torch.load(stream, weights_only=True)
    pictures = [tuned.pipeline.generate(tuned.requests(s, trial(seeds=(3,)), 3))[0] for s in (state, read)]
    assert worst(*pictures) == 0


@pytest.mark.parametrize("name", ["tiny_base", "tiny_sd15"])
def test_diffusers_loads_the_lora_and_predicts_the_same(name, request, tmp_path):
    folder = request.getfixturevalue(name)
    ours = method(request.getfixturevalue({"tiny_base": "pipeline", "tiny_sd15": "pipeline_15"}[name]))
    learned = ours.personalise(photos(), "man", seed=1)
    for key in learned["lora"]:  # far from zero, so that a wrong scale would show
        learned["lora"][key] = torch.randn_like(learned["lora"][key]) * 0.3
    file = ours.export(learned, tmp_path)
    theirs = DiffusionPipeline.from_pretrained(folder)
    theirs.load_lora_weights(file.parent, weight_name=file.name)
    (row,) = ours.pipeline.prepare(ours.requests(learned, trial(seeds=(3,)), 3))
    noisy, timesteps = torch.randn(1, *row.shape), torch.tensor([500])
    base = ours.pipeline.base
    told = {"max_tokens": base.max_tokens}
    expected = base.family.predict(theirs.unet, noisy, timesteps, row.conditioning, **told)
    plain = base.family.predict(ours.pipeline.plain_unet(), noisy, timesteps, row.conditioning, **told)
    ours.pipeline._switch.use(row.lora)
    torch.testing.assert_close(base.predict(noisy, timesteps, row.conditioning), expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(plain, expected, atol=1e-2)


def test_class_pictures_are_made_once_and_shared(pipeline, tmp_path, monkeypatch):
    first = method(pipeline, prior_folder=str(tmp_path)).personalise(photos(), "man", 0)
    (file,) = tmp_path.iterdir()
    monkeypatch.setattr(type(pipeline), "latents", lambda *a, **k: pytest.fail("made again"))
    again = method(pipeline, prior_folder=str(tmp_path)).personalise(photos(), "man", 0)
    assert all(torch.equal(again["lora"][k], v) for k, v in first["lora"].items())
    monkeypatch.undo()
    whole = file.read_bytes()
    file.write_bytes(whole[:100])  # a damaged file is made again
    method(pipeline, prior_folder=str(tmp_path)).personalise(photos(), "man", 0)
    assert file.read_bytes() == whole


def test_class_pictures_depend_on_prompt_sampler_and_number(pipeline, tmp_path):
    for prompt, count, steps in (("a man", 1, 2), ("a woman", 1, 2), ("a man", 2, 2), ("a man", 1, 3), ("a man", 1, 2)):
        made = class_latents(pipeline, sampler(steps=steps), prompt, count, tmp_path)
        assert made.shape == (count, 4, 8, 8)
    assert len(list(tmp_path.iterdir())) == 4


def test_what_cannot_be_learned_from_is_refused(tuned):
    with pytest.raises(RequestError, match="no photo of the person is given"):
        tuned.personalise([], "man", 0)
    with pytest.raises(ConfigError, match="train.steps=0 must be at least 1"):
        choice("dreambooth", train=section("dreambooth", "train") | {"steps": 0})
    with pytest.raises(ConfigError, match="LoRA target 'to_x' names no matrix of this U-Net"):
        method(tuned.pipeline, targets=["to_q", "to_x"]).personalise(photos(), "man", 0)
    with pytest.raises(ConfigError, match="loss is nan at step 1 of 4; lower lr=0.001"):
        step = torch.nn.Linear(1, 1)
        batches = iter([torch.full((1, 1), torch.nan)] * 4)
        fit(step, list(step.parameters()), batches, choice("dreambooth", FEW | {"lr": 1e-3}).train)
