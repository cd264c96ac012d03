"""An image prompt beside the text: what reaches whom, in training and in rows that share a call."""

import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from pm.errors import CheckpointError
from pm.model.adapter import adapter_state, meta_of
from pm.model.adapter_file import load_adapter, save_adapter
from pm.model.base import load_base
from pm.model.conditioning import Conditioning
from pm.model.image_prompt import ImagePrompt, attend_to_images
from pm.model.kinds.ip_adapter import IPAdapterChoice


@pytest.fixture(params=["linear", "resampler"])
def model(request, tiny_base):
    torch.manual_seed(0)
    return IPAdapterChoice("ip_adapter", 4, "img", False, request.param, 3, 2).build(load_base(tiny_base))


def conditioning_of(model, batch, **more):
    return model.condition(batch.text, batch.class_index, batch.id_pixels, batch.id_counts, batch.time_ids, **more)


def test_batch_of_n_equals_n_batches_of_one(model, make_batch, row_of):
    batch = make_batch(model, drop=(False, True, False))
    with torch.no_grad():
        together = model(batch.noisy, batch.timesteps, batch)
        rows = [row_of(batch, b) for b in range(3)]
        singly = torch.cat([model(row.noisy, row.timesteps, row) for row in rows])
    torch.testing.assert_close(together, singly, atol=1e-5, rtol=1e-4)


def test_a_unet_that_knows_image_prompts_is_the_base_without_one(make_batch, model, tiny_base):
    base, batch = load_base(tiny_base), make_batch(model)
    text = Conditioning.from_text(batch.text, batch.time_ids)
    with torch.no_grad():
        before = base.predict(batch.noisy, batch.timesteps, text)
        attend_to_images(base.unet)
        assert torch.equal(base.predict(batch.noisy, batch.timesteps, text), before)
        assert torch.equal(model.predict(batch.noisy, batch.timesteps, text), before)


def test_scale_zero_and_rows_without_photos_are_the_base(model, make_batch):
    batch = make_batch(model)
    with torch.no_grad():
        text = Conditioning.from_text(batch.text, batch.time_ids)
        plain = model.predict(batch.noisy, batch.timesteps, text)
        shown = conditioning_of(model, batch, scale=torch.tensor([1.0, 0.0, 0.5]))
        mixed = model.predict(batch.noisy, batch.timesteps, shown)
        torch.testing.assert_close(mixed[1], plain[1])
        assert (mixed - plain)[[0, 2]].abs().amax((1, 2, 3)).min() > 1e-3
        parts = [shown.rows([0]), text.rows([1]), shown.rows([2])]
        mixed = model.predict(batch.noisy, batch.timesteps, Conditioning.concat(parts))
        torch.testing.assert_close(mixed[1], plain[1])
        assert mixed.isfinite().all()


def test_dropped_rows_see_what_guidance_moves_away_from(model, make_batch):
    batch = make_batch(model, drop=(True, True, True))
    null = ImagePrompt.concat([model.null_image()] * 3, [1, 1, 1])
    text = Conditioning.from_text(batch.text, batch.time_ids)
    expected = model.drop_rows(text, batch.drop_text).with_image(null)
    with torch.no_grad():
        dropped = model(batch.noisy, batch.timesteps, batch)
        torch.testing.assert_close(dropped, model.predict(batch.noisy, batch.timesteps, expected), atol=1e-5, rtol=1e-4)


def test_gradients_reach_the_new_weights_and_no_other(model, make_batch):
    batch = make_batch(model)
    model.train()(batch.noisy, batch.timesteps, batch).square().mean().backward()
    grouped = {id(p) for group in model.parameter_groups().values() for p in group}
    assert grouped == {id(p) for p in model.parameters() if p.requires_grad}
    assert grouped == {id(p) for p in model.adapter_parameters().values()}
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) == (id(parameter) in grouped), name


def test_recomputed_activations_give_the_same_gradients(tiny_base, make_batch):
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        choice = IPAdapterChoice("ip_adapter", 4, "img", checkpointing, "linear", 3, 1)
        model = choice.build(load_base(tiny_base)).train()
        batch = make_batch(model)
        model(batch.noisy, batch.timesteps, batch).square().mean().backward()
        found.append([p.grad for p in model.parameter_groups()["lora"]])
    torch.testing.assert_close(found[0], found[1])


@pytest.fixture
def file(model, tmp_path):
    path = tmp_path / "ip.safetensors"
    save_adapter(path, adapter_state(model), meta_of(model, crop_mode="face+mask", project_version="1"))
    return path


def test_the_file_says_what_it_is_and_gives_the_same_weights(model, file, tiny_base):
    state, meta = load_adapter(file)
    assert (meta.kind, meta.merge, meta.base_fingerprint) == ("ip_adapter", "attention", model.base.fingerprint)
    assert {re.match(r"(image_proj|ip_adapter)\.", key)[1] for key in state} == {"image_proj", "ip_adapter"}
    base = load_base(tiny_base)
    read, change = IPAdapterChoice.read(base, state, meta, check_base=True)
    assert change is None
    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(read.embed(pixels), model.embed(pixels))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("ip_adapter.1.to_k_ip.weight"), "does not fit this U-Net: 1 weights missing"),
        (
            lambda s: s.update({"ip_adapter.1.to_k_ip.weight": torch.zeros(2, 2)}),
            "not fit this base: size mismatch",
        ),
        (lambda s: s.update({"ip_adapter.99.to_k_ip.weight": torch.zeros(2, 2)}), "1 left over"),
        (lambda s: s.update({"vae.x": torch.zeros(2, 2)}), "is not an IP-Adapter: .* found vae.x"),
        (lambda s: s.update({"ip_adapter.1.to_k_ip.weight": torch.tensor([[torch.nan]])}), "NaN or infinity"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(file, tiny_base, change, message):
    state = load_file(file)
    change(state)
    save_file(state, file)  # without metadata, as published
    with pytest.raises(CheckpointError, match=message):
        IPAdapterChoice.read(load_base(tiny_base), *load_adapter(file), check_base=True)


def test_other_variants_and_towers_are_refused(file, tiny_base, tmp_path):
    state = {"image_proj.proj.0.weight": torch.zeros(2, 2), "ip_adapter.1.to_k_ip.weight": torch.zeros(2, 2)}
    save_file(state, tmp_path / "faceid.safetensors")
    with pytest.raises(CheckpointError, match="variant that is not supported; take one with a linear projection"):
        load_adapter(tmp_path / "faceid.safetensors")
    found, meta = load_adapter(file)
    meta.settings["vision"] = "another"
    with pytest.raises(CheckpointError, match="trained with another vision tower"):
        IPAdapterChoice.read(load_base(tiny_base), found, meta, check_base=True)
    seen = next(name for name in ("image_proj.proj.weight", "image_proj.proj_in.weight") if name in found)
    found[seen] = torch.zeros(found[seen].shape[0], 5)
    with pytest.raises(CheckpointError, match="reads image features of width 5.*set base.vision_path"):
        IPAdapterChoice.read(load_base(tiny_base), found, meta, check_base=False)
