"""A fused token of several photos, a loss on cross-attention, a U-Net of the adapter's own."""

import copy

import pytest
import torch
from safetensors.torch import save_file

from pm.errors import CheckpointError
from pm.model.adapter import adapter_state, meta_of
from pm.model.adapter_file import load_adapter, save_adapter, strip
from pm.model.base import load_base
from pm.model.conditioning import Conditioning
from pm.model.fused import LoraSwitch, ReplacedUnet
from pm.model.image_prompt import cross_attention_layers
from pm.model.kinds.fastcomposer import FastComposerChoice
from pm.model.localisation import AttentionWatch, balanced_l1
from pm.model.ragged import pad_ragged

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def build(path, rank=None, weight=1.0, checkpointing=False, blocks=5):
    torch.manual_seed(0)
    choice = FastComposerChoice("fastcomposer", 4, "img", checkpointing, rank, TARGETS, 1, weight, blocks)
    return choice.build(load_base(path))


@pytest.fixture(params=[None, 4], ids=["whole", "lora"])
def model(request, tiny_base):
    return build(tiny_base, request.param)


def with_mask(batch):
    batch.mask = torch.zeros(3, 1, 8, 8)
    batch.mask[:, :, 2:, 2:6] = 1
    return batch


def test_batch_of_n_equals_n_batches_of_one(model, make_batch, row_of):
    batch = with_mask(make_batch(model, drop=(False, True, False)))
    with torch.no_grad():
        together = model(batch.noisy, batch.timesteps, batch)
        singly = [model(row.noisy, row.timesteps, row) for row in (row_of(batch, b) for b in range(3))]
    for i, part in enumerate(("prediction", "penalty")):
        expected = torch.cat([each[i] for each in singly])
        torch.testing.assert_close(getattr(together, part), expected, atol=1e-5, rtol=1e-4)
    assert together.penalty[1] == 0 and (together.penalty != 0).tolist() == [True, False, True]


def test_a_fused_token_is_what_the_papers_formulas_give(model, make_batch):
    """Section 4.1 there: MLP([c ; e]) in the class word's place, here of the photos' mean."""
    batch, encoder = make_batch(model), model.id_encoder
    with torch.no_grad():
        made = model.condition(batch.text, batch.class_index, batch.id_pixels, batch.id_counts, batch.time_ids)
        e = pad_ragged(encoder.embed(batch.id_pixels), batch.id_counts, 4).sum(1) / batch.id_counts[:, None]
        c = batch.embeds[torch.arange(3), batch.class_index]
        fuse = encoder.fuse_module
        x = fuse.mlp1.fc2(torch.nn.functional.gelu(fuse.mlp1.fc1(fuse.mlp1.layernorm(torch.cat([c, e], -1))))) + c
        x = fuse.mlp2.fc2(torch.nn.functional.gelu(fuse.mlp2.fc1(fuse.mlp2.layernorm(x)))) + x
        expected = batch.embeds.clone()
        expected[torch.arange(3), batch.class_index] = fuse.layer_norm(x)
    torch.testing.assert_close(made.embeds, expected)
    assert torch.equal(made.text_embeds, batch.embeds)


def test_the_loss_of_attention_is_least_on_the_person_and_most_outside():
    mask = torch.zeros(2, 1, 4, 8)
    mask[:, :, :, 2:6] = 1
    on, off = mask.flatten(2).repeat(1, 3, 1), (1 - mask).flatten(2).repeat(1, 3, 1)
    torch.testing.assert_close(balanced_l1(on, mask), torch.full((2,), -1.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(balanced_l1(off, mask), torch.full((2,), 1.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(balanced_l1(on * 0.3, mask), torch.full((2,), -0.3), atol=1e-4, rtol=0)
    coarse = torch.nn.functional.interpolate(mask, (2, 4), mode="bilinear", antialias=True).flatten(2)
    assert balanced_l1(coarse.repeat(1, 3, 1), mask).max() < -0.5
    for empty in (torch.zeros_like(mask), torch.ones_like(mask)):
        assert balanced_l1(on, empty).isfinite().all()


def test_what_is_watched_is_the_attention_and_leaves_the_output(tiny_base, make_batch, make_photomaker):
    base, batch = load_base(tiny_base), make_batch(make_photomaker())
    text = Conditioning.from_text(batch.text, batch.time_ids)
    with torch.no_grad():
        plain = base.predict(batch.noisy, batch.timesteps, text)
        watch, caught = AttentionWatch(base.unet, 99), {}
        assert watch.blocks == ["down_blocks.1", "mid_block", "up_blocks.0"]
        for number, module in enumerate(cross_attention_layers(base.unet).values()):
            module.register_forward_pre_hook(
                lambda m, args, kw, n=number: caught.update({n: (m, args[0], kw["encoder_hidden_states"])}),
                with_kwargs=True,
            )
        with watch.watching(batch.class_index) as seen:
            output = base.predict(batch.noisy, batch.timesteps, text)
    torch.testing.assert_close(output, plain, atol=1e-5, rtol=1e-4)
    assert seen.keys() == caught.keys()
    for number, (module, hidden, encoded) in caught.items():
        with torch.no_grad():
            query, key = (module.head_to_batch_dim(p(x)) for p, x in ((module.to_q, hidden), (module.to_k, encoded)))
            theirs = module.get_attention_scores(query, key).unflatten(0, (3, -1))
        expected = torch.stack([theirs[b, :, :, i] for b, i in enumerate(batch.class_index)])
        torch.testing.assert_close(seen[number], expected)
    assert AttentionWatch(base.unet, 1).blocks == ["mid_block"]


def test_gradients_reach_what_is_trained_and_no_other(model, make_batch):
    batch = with_mask(make_batch(model))
    with torch.no_grad():
        for parameter in model.parameter_groups()["lora"]:  # LoRA starts with zeros, behind which nothing is learnt
            parameter.add_(torch.randn_like(parameter) * 0.02)
    output = model.train()(batch.noisy, batch.timesteps, batch)
    (output.prediction.square().mean() + output.penalty.mean()).backward()
    grouped = {id(p): p for group in model.parameter_groups().values() for p in group}
    assert grouped.keys() == {id(p) for p in model.parameters() if p.requires_grad}
    assert grouped.keys() <= {id(p) for p in model.adapter_parameters().values()}
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in grouped.values())
    assert all(p.grad is None for p in model.parameters() if id(p) not in grouped)


@pytest.mark.parametrize("rank", [None, 4])
def test_the_loss_of_attention_teaches_also_where_activations_are_recomputed(tiny_base, make_batch, rank):
    found = []
    for checkpointing in (False, True):
        model = build(tiny_base, rank, checkpointing=checkpointing).train()
        batch = with_mask(make_batch(model))
        model(batch.noisy, batch.timesteps, batch).penalty.sum().backward()
        found.append(model.id_encoder.fuse_module.mlp1.fc1.weight.grad)
    assert found[0].abs().sum() > 0
    torch.testing.assert_close(found[0], found[1])


def test_the_file_gives_the_same_model(model, tiny_base, make_batch, tmp_path):
    with torch.no_grad():
        for parameter in model.parameter_groups()["lora"]:
            parameter.add_(torch.randn_like(parameter) * 0.02)
    path = tmp_path / "fc.safetensors"
    save_adapter(path, adapter_state(model), meta_of(model, crop_mode="none", project_version="0"))
    state, meta = load_adapter(path)
    assert (meta.kind, meta.compose.name, meta.merge) == ("fastcomposer", "average", "insert")
    base, batch = load_base(tiny_base), make_batch(model)
    before = {name: value.clone() for name, value in base.unet.state_dict().items()}
    conditioner, change = FastComposerChoice.read(base, state, meta, check_base=True)
    switch = LoraSwitch(base.unet)
    switch.use(change)
    args = (batch.text, batch.class_index, batch.id_pixels, batch.id_counts, batch.time_ids)
    with torch.no_grad():
        expected = model.predict(batch.noisy, batch.timesteps, model.condition(*args))
        made = base.predict(batch.noisy, batch.timesteps, conditioner.condition(*args))
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-4)
    switch.use(None)
    assert all(torch.equal(value, before[name]) for name, value in base.unet.state_dict().items())


def published(model, base) -> dict[str, torch.Tensor]:
    """The authors' checkpoint, by their names: a whole model."""
    state = adapter_state(model)
    tower = strip(state, "id_encoder.")
    fuse = {f"postfuse_module.{k}": v for k, v in strip(tower, "fuse_module.").items()}
    image = {f"image_encoder.{k}": v for k, v in tower.items() if not k.startswith("fuse_module.")}
    text = strip(base.text_encoders[0].state_dict(), "text_model.") or base.text_encoders[0].state_dict()
    parts = {f"text_encoder.{k}": v for k, v in text.items()} | {
        f"vae.{k}": v for k, v in base.vae.state_dict().items()
    }
    positions = {"image_encoder.vision_model.embeddings.position_ids": torch.arange(17)[None]}
    unet = {k: v for k, v in state.items() if k.startswith("unet.")}
    return fuse | image | parts | positions | unet


@pytest.fixture
def whole(tiny_sd15):
    return build(tiny_sd15)


def test_a_published_checkpoint_loads_strictly_onto_its_base(whole, tiny_sd15, make_batch, tmp_path):
    base = load_base(tiny_sd15)
    torch.save(published(whole, base), tmp_path / "pytorch_model.bin")
    state, meta = load_adapter(tmp_path / "pytorch_model.bin")
    assert (meta.kind, meta.base_fingerprint, meta.trigger_word) == ("fastcomposer", "", "img")
    conditioner, change = FastComposerChoice.read(base, state, meta, check_base=True)
    assert isinstance(change, ReplacedUnet)
    batch = make_batch(whole)
    torch.testing.assert_close(conditioner.embed(batch.id_pixels), whole.embed(batch.id_pixels))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("unet.conv_in.weight"), "1 weights missing"),
        (lambda s: s.update({"unet.conv_in.weight": torch.zeros(3, 3)}), "another shape in conv_in.weight"),
        (lambda s: s.update({"unet.more": torch.zeros(3)}), "1 left over"),
        (lambda s: s.pop("postfuse_module.layer_norm.bias"), "does not fit the id encoder: Missing key"),
        (lambda s: s.pop("text_encoder.embeddings.token_embedding.weight"), "not a whole FastComposer checkpoint"),
        (lambda s: s.update({"ema.x": torch.zeros(3)}), "ema.x does not belong to it"),
        (lambda s: s["text_encoder.embeddings.token_embedding.weight"].add_(1), "another text encoder"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(whole, tiny_sd15, tmp_path, change, message):
    base = load_base(tiny_sd15)
    state = copy.deepcopy(published(whole, base))
    change(state)
    save_file({k: v.contiguous().clone() for k, v in state.items()}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        FastComposerChoice.read(base, *load_adapter(tmp_path / "model.safetensors"), check_base=True)
