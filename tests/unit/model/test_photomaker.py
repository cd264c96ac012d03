"""The whole module: batching, padding, dropping, training."""

import pytest
import torch

from pm.errors import CheckpointError
from pm.model.adapter import adapter_state, apply_adapter, meta_of
from pm.model.adapter_file import load_adapter, save_adapter
from pm.model.base import load_base
from pm.model.conditioning import Conditioning
from pm.model.photomaker import PhotoMaker

MODES = [(m, c) for m in ("insert", "repeat") for c in ("stacked", "average", "linear")]
ON_SD15 = [("insert", "stacked", "sd15"), ("repeat", "average", "sd15")]
TWO_TOKENS = {"name": "support.composers", "lean": 0.5}


@pytest.mark.parametrize(("merge", "compose", "family"), [(*mode, "sdxl") for mode in MODES] + ON_SD15)
def test_batch_of_n_equals_n_batches_of_one(make_photomaker, make_batch, row_of, merge, compose, family):
    photomaker = make_photomaker(merge, compose, family=family)
    batch = make_batch(photomaker, drop=(False, True, False))
    with torch.no_grad():
        together = photomaker(batch.noisy, batch.timesteps, batch)
        rows = [row_of(batch, b) for b in range(3)]
        singly = torch.cat([photomaker(row.noisy, row.timesteps, row) for row in rows])
    torch.testing.assert_close(together, singly, atol=1e-5, rtol=1e-4)
    assert (together[0] - together[2]).abs().max() > 1e-3


@pytest.mark.parametrize("merge", ["insert", "repeat"])
def test_a_composer_of_somebody_else_may_give_several_tokens_a_photo(
    make_photomaker, make_batch, row_of, merge, tmp_path
):
    photomaker = make_photomaker(merge, TWO_TOKENS)
    batch = make_batch(photomaker)
    with torch.no_grad():
        together = photomaker(batch.noisy, batch.timesteps, batch)
        singly = torch.cat([photomaker(row.noisy, row.timesteps, row) for row in (row_of(batch, b) for b in range(3))])
        plain = photomaker.condition(batch.text, batch.class_index, batch.id_pixels, batch.id_counts, batch.time_ids)
    torch.testing.assert_close(together, singly, atol=1e-5, rtol=1e-4)
    if merge == "insert":
        assert plain.mask.sum(1).tolist() == [80, 78, 84]  # 77 - 1 + twice the photos
    save_adapter(
        tmp_path / "a.safetensors", adapter_state(photomaker), meta_of(photomaker, crop_mode="", project_version="")
    )
    state, meta = load_adapter(tmp_path / "a.safetensors")
    assert meta.config(state).compose == photomaker.config.compose and meta.compose.label.endswith("(lean=0.5)")
    apply_adapter(make_photomaker(merge, TWO_TOKENS), state, meta)


@pytest.mark.parametrize("merge", ["insert", "repeat"])
def test_every_image_and_only_the_own_images_matter(make_photomaker, make_batch, merge):
    photomaker = make_photomaker(merge)
    batch = make_batch(photomaker)
    with torch.no_grad():
        before = photomaker(batch.noisy, batch.timesteps, batch)
        batch.id_pixels[4] += 1.0  # the second of row 2
        after = photomaker(batch.noisy, batch.timesteps, batch)
    assert torch.equal(before[:2], after[:2])
    assert not torch.allclose(before[2], after[2], atol=1e-6)


def test_masked_padding_has_no_influence(make_photomaker, make_batch):
    photomaker = make_photomaker()
    batch = make_batch(photomaker)
    with torch.no_grad():
        conditioning = photomaker.condition(
            batch.text, batch.class_index, batch.id_pixels, batch.id_counts, batch.time_ids
        )
        assert conditioning.mask.sum(1).tolist() == [78, 77, 80]
        noise = torch.randn_like(conditioning.embeds) * 100
        dirty = torch.where(conditioning.mask[..., None], conditioning.embeds, noise)
        fields = vars(conditioning) | {"embeds": dirty}
        clean = photomaker.predict(batch.noisy, batch.timesteps, conditioning)
        torch.testing.assert_close(clean, photomaker.predict(batch.noisy, batch.timesteps, Conditioning(**fields)))


def test_adapter_that_is_off_leaves_the_base_as_it_was(make_photomaker, make_batch, tiny_base):
    photomaker, base = make_photomaker(lively=False), load_base(tiny_base)
    batch = make_batch(photomaker)
    text = Conditioning.from_text(batch.text, batch.time_ids)
    with torch.no_grad():
        ours = photomaker.predict(batch.noisy, batch.timesteps, text)
        added = {"text_embeds": batch.pooled, "time_ids": batch.time_ids}
        theirs = base.unet(batch.noisy, batch.timesteps, batch.embeds, added_cond_kwargs=added).sample
        assert torch.equal(ours, theirs)
        assert not torch.allclose(make_photomaker().predict(batch.noisy, batch.timesteps, text), theirs, atol=1e-4)


def test_dropped_rows_see_the_null_text_only(make_photomaker, make_batch):
    photomaker = make_photomaker()
    batch = make_batch(photomaker, drop=(True, False, True))
    null = Conditioning(
        torch.zeros(3, 77, 80),
        torch.ones(3, 77, dtype=torch.bool),
        torch.zeros(3, 48),
        batch.time_ids,
        batch.embeds,
        batch.pooled,
    )
    with torch.no_grad():
        dropped = photomaker(batch.noisy, batch.timesteps, batch)
        expected = photomaker.predict(batch.noisy, batch.timesteps, null)
    torch.testing.assert_close(dropped[[0, 2]], expected[[0, 2]], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(dropped[1], expected[1], atol=1e-4)


@pytest.mark.parametrize(("merge", "compose", "family"), [(*mode, "sdxl") for mode in MODES] + ON_SD15)
def test_all_trainable_parameters_get_gradients(make_photomaker, make_batch, merge, compose, family):
    photomaker = make_photomaker(merge, compose, family=family).train()
    batch = make_batch(photomaker)
    photomaker(batch.noisy, batch.timesteps, batch).square().mean().backward()
    groups = photomaker.parameter_groups()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for group in groups.values() for p in group)
    grouped = {id(p) for group in groups.values() for p in group}
    assert grouped == {id(p) for p in photomaker.parameters() if p.requires_grad}


def test_a_batch_of_dropped_rows_still_gives_zero_gradients_to_all(make_photomaker, make_batch):
    photomaker = make_photomaker().train()
    batch = make_batch(photomaker, drop=(True, True, True))
    photomaker(batch.noisy, batch.timesteps, batch).square().mean().backward()
    groups = photomaker.parameter_groups()
    assert all(p.grad is not None and p.grad.abs().sum() == 0 for p in groups["id_encoder"])


def test_gradient_checkpointing_changes_nothing(make_photomaker, make_batch):
    gradients = []
    for checkpointing in (False, True):
        photomaker = make_photomaker(gradient_checkpointing=checkpointing).train()
        batch = make_batch(photomaker)
        photomaker(batch.noisy, batch.timesteps, batch).square().mean().backward()
        gradients.append([p.grad for p in photomaker.parameters() if p.requires_grad])
    assert photomaker.unet.is_gradient_checkpointing and photomaker.id_encoder.vision_model.is_gradient_checkpointing
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, atol=1e-6, rtol=1e-4)


def test_as_many_layers_of_the_tower_train_as_are_asked_for(make_photomaker):
    upper, whole = make_photomaker().id_encoder, make_photomaker(train_layers=2).id_encoder
    assert (upper.frozen_layers, whole.frozen_layers) == (1, 0)


@pytest.mark.parametrize(("layers", "trained"), [(0, 0), (1, 1), (2, 2), (9, 2)])
def test_only_the_upper_layers_of_the_tower_train(make_photomaker, layers, trained):
    encoder = make_photomaker().id_encoder
    encoder.freeze_below(layers)
    flags = [all(p.requires_grad for p in layer.parameters()) for layer in encoder.vision_model.encoder.layers]
    assert flags == [False] * (2 - trained) + [True] * trained
    assert encoder.vision_model.embeddings.class_embedding.requires_grad == (layers >= 2)
    assert encoder.fuse_module.mlp1.fc1.weight.requires_grad and encoder.visual_projection.weight.requires_grad


@pytest.mark.parametrize(("merge", "compose"), MODES)
def test_weight_moves_from_the_class_word_through_the_token(make_photomaker, make_batch, merge, compose):
    photomaker = make_photomaker(merge, compose)
    batch = make_batch(photomaker)

    def embeds(weight):
        weights = None if weight is None else torch.full((7,), weight)
        args = (batch.text, batch.class_index, batch.id_pixels, batch.id_counts, batch.time_ids)
        with torch.no_grad():
            return photomaker.condition(*args, weights=weights).embeds

    torch.testing.assert_close(embeds(1.0), embeds(None))
    torch.testing.assert_close(embeds(2.0) - embeds(1.0), embeds(1.0) - embeds(0.0), atol=1e-4, rtol=1e-4)
    if merge == "repeat" or compose != "stacked":
        torch.testing.assert_close(embeds(0.0), batch.text.embeds)
    assert (embeds(1.0) - embeds(0.0)).abs().max() > 0.1


def test_runs_in_bfloat16(make_photomaker, make_batch):
    photomaker = make_photomaker().to(torch.bfloat16)
    batch = make_batch(make_photomaker())
    for name in ("embeds", "pooled", "id_pixels", "noisy"):
        setattr(batch, name, getattr(batch, name).bfloat16())
    out = photomaker(batch.noisy, batch.timesteps, batch)
    assert out.dtype == torch.bfloat16 and out.isfinite().all()


@pytest.mark.parametrize(("merge", "compose"), [("insert", "stacked"), ("repeat", "linear")])
def test_trains_under_autocast(make_photomaker, make_batch, merge, compose):
    photomaker = make_photomaker(merge, compose).train()
    batch = make_batch(photomaker)
    with torch.autocast("cpu", torch.bfloat16):
        loss = photomaker(batch.noisy, batch.timesteps, batch).float().square().mean()
    loss.backward()
    assert all(p.grad is not None for group in photomaker.parameter_groups().values() for p in group)


def test_refuses_a_base_without_unet_or_with_an_adapter(make_photomaker, tiny_base):
    photomaker = make_photomaker()
    with pytest.raises(CheckpointError, match="already carries an adapter"):
        PhotoMaker(photomaker.base, photomaker.config)
    with pytest.raises(CheckpointError, match="without its U-Net"):
        PhotoMaker(load_base(tiny_base, parts=("text",)), photomaker.config)
