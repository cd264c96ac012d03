"""Terms beside the diffusion loss: what they add, to whom gradients flow, and that none is none."""

import copy
import dataclasses

import pytest
import torch

from pm.errors import CheckpointError, ConfigError
from pm.model.conditioning import Conditioning
from pm.model.kinds.lora import LoraChoice
from pm.model.localisation import token_places
from pm.train.diffusion import noise_schedule
from pm.train.losses.uniform import Uniform
from pm.train.objectives.diffusion import Diffusion
from pm.train.step import Precision
from pm.train.terms.base import Seen
from pm.train.terms.editing import Editing
from pm.train.terms.identity import FaceIdentity
from pm.train.terms.localisation import Localisation

PROMPTS = ("a {class_word} in a blue hoodie", "a sad {class_word}")
LORA = LoraChoice("lora", 4, "img", False, 4, ("to_q",))


@pytest.fixture(params=["mask", "class_word", "editing", "identity"])
def term(request, recogniser):
    return {
        "mask": Localisation("localisation", 0.7, against="mask", blocks=5),
        "class_word": Localisation("localisation", 0.7, against="class_word", blocks=5),
        "editing": Editing("editing", 0.7, prompts=PROMPTS),
        "identity": FaceIdentity("identity", 0.7, recogniser=str(recogniser), until=1.0),
    }[request.param]


def step_of(model, *terms):
    objective = Diffusion("diffusion", terms=terms)
    return objective.build(model, noise_schedule({}), 0.5, Precision(torch.float32), Uniform("uniform"))


def losses_and_gradients(model, batch, *terms):
    losses = step_of(model, *terms)(batch)
    losses.sum().backward()
    return losses.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def test_without_weight_a_term_changes_nothing_bit_by_bit(model, batch, term):
    plain = losses_and_gradients(copy.deepcopy(model), batch)
    off = losses_and_gradients(copy.deepcopy(model), batch, dataclasses.replace(term, weight=0.0))
    assert torch.equal(plain[0], off[0]) and plain[1].keys() == off[1].keys()
    assert all(torch.equal(plain[1][name], off[1][name]) for name in plain[1])


def test_a_term_adds_to_rows_that_see_the_person_and_trains_what_is_trained(model, batch, term):
    plain, known = losses_and_gradients(copy.deepcopy(model), batch)
    (added, gradients), trained = losses_and_gradients(model, batch, term), dict(model.named_parameters())
    extra = added - plain
    assert added.shape == (3,) and added.dtype == torch.float32
    assert ((extra.abs() > 1e-5) == torch.tensor([True, False, True])).all()
    assert gradients.keys() == known.keys() and all(trained[name].requires_grad for name in gradients)
    for part in ("lora_", "id_encoder."):  # both halves of the adapter
        moved = [n for n in gradients if part in n and not torch.allclose(gradients[n], known[n], atol=1e-7)]
        assert moved, part
    frozen = [model.base.vae, *model.base.text_encoders]
    assert all(p.grad is None for module in frozen for p in module.parameters())


def test_a_batch_of_n_is_n_batches_of_one(model, batch, term, row_of):
    step = step_of(model, term)
    with torch.no_grad():
        together, singly = step(batch), torch.cat([step(row_of(batch, i)) for i in range(3)])
    torch.testing.assert_close(together, singly, atol=1e-4, rtol=1e-3)


def seen_of(batch, prediction, latents, noise, timesteps):
    signal, level = noise_schedule({}).at(timesteps)
    return Seen(batch, latents, signal * latents + level * noise, timesteps, prediction)


def test_identity_is_zero_for_a_right_prediction_and_counts_until_a_noise_level(model, batch, recogniser):
    choice = FaceIdentity("identity", 1.0, recogniser=str(recogniser), until=0.5)
    term, generator = choice.build(model, noise_schedule({}), 0.5), torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=generator)
    timesteps, wrong = torch.tensor([100, 100, 900]), noise + 1
    assert term(seen_of(batch, noise, latents, noise, timesteps)).abs().max() < 1e-4
    found = term(seen_of(batch, wrong, latents, noise, timesteps))
    assert found[0] > 1e-4 and found[1] == 0 and found[2] == 0  # dropped text, and too much noise
    with pytest.raises(CheckpointError, match=r"no recogniser at .*; python -m pm.toon.pretrain.recogniser"):
        dataclasses.replace(choice, recogniser="none.safetensors").build(model, noise_schedule({}), 0.5)


def test_an_adapter_that_says_nothing_edits_as_the_base_does(model, batch, monkeypatch):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.zero_()

    def plain(text, index, pixels, counts, time_ids, **_):
        return Conditioning.from_text(text, time_ids)

    monkeypatch.setattr(model, "condition", plain)
    term = Editing("editing", 1.0, prompts=PROMPTS).build(model, noise_schedule({}), 0.5)
    noisy, timesteps = torch.randn(3, 4, 8, 8), torch.tensor([10, 400, 900])
    said = model.predict(noisy, timesteps, plain(batch.text, None, None, None, batch.time_ids))
    assert term(Seen(batch, noisy, noisy, timesteps, said)).abs().max() < 1e-4


def test_places_of_identity_tokens_are_each_rows_own():
    places, shares = token_places(torch.tensor([5, 2]), torch.tensor([1, 3]))
    assert places.tolist() == [[5, 5, 5], [2, 3, 4]]
    torch.testing.assert_close(shares, torch.tensor([[1.0, 0, 0], [1 / 3] * 3]))


def test_what_does_not_fit_is_refused_by_name(recogniser):
    local = Localisation("localisation", 1.0, against="mask", blocks=5)
    with pytest.raises(ConfigError, match="names localisation twice"):
        Diffusion("diffusion", terms=(local, local))
    with pytest.raises(ConfigError, match="model=lora does not have"):
        Diffusion("diffusion", terms=(local,)).check(LORA, Uniform("uniform"))
    with pytest.raises(ConfigError, match="term editing needs model=photomaker"):
        Diffusion("diffusion", terms=(Editing("editing", 1.0, prompts=PROMPTS),)).check(LORA, Uniform("uniform"))
    with pytest.raises(ConfigError, match="'a dog' of term editing lacks"):
        Editing("editing", 1.0, prompts=("a dog",))
