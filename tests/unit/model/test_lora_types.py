"""DoRA and LoKr in LoRA's place: PEFT's numbers, files that give the same model, formats that cannot carry them."""

import copy

import pytest
import torch
from peft import LoKrConfig, LoraConfig, get_peft_model
from torch import nn

from pm.errors import CheckpointError, ConfigError
from pm.model.adapter import adapter_state, meta_of, start_from
from pm.model.adapter_file import LORA_PREFIX, load_adapter, save_adapter, strip
from pm.model.base import load_base
from pm.model.comfyui import save_comfyui
from pm.model.formats import LORA, save_diffusers, save_published
from pm.model.fused import LoraSwitch
from pm.model.kinds.photomaker import PhotoMakerChoice
from pm.model.lora import add_lora, lora_off
from pm.model.lora_linear import ADAPTER_NAME
from pm.model.lora_types import DoraLinear, LokrLinear, check_lora_alone

KINDS = ("dora", "lokr")


class Plain(nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.layer = nn.Linear(64, 48, bias=bias)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, False])
def test_layers_compute_what_pefts_do_forwards_and_backwards(kind, bias):
    torch.manual_seed(0)
    plain = Plain(bias)
    own = {"dora": DoraLinear, "lokr": LokrLinear}[kind](copy.deepcopy(plain.layer), 3)
    x = torch.randn(2, 5, 64)
    torch.testing.assert_close(own(x), plain(x))  # nothing changes at first
    settings = {"r": 3, "target_modules": ["layer"]}
    config = LoraConfig(lora_alpha=3, use_dora=True, **settings) if kind == "dora" else LoKrConfig(alpha=3, **settings)
    peer = get_peft_model(plain, config)
    named = {n.replace(f".{ADAPTER_NAME}", ".default"): p for n, p in own.named_parameters() if "base_layer" not in n}
    theirs = {n.removeprefix("base_model.model.layer."): p for n, p in peer.named_parameters() if p.requires_grad}
    assert named.keys() == theirs.keys()
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.add_(torch.randn_like(parameter) * 0.3)
            theirs[name].copy_(parameter)
    torch.testing.assert_close(own(x), peer(x))
    (own(x).square().sum() + 0 * peer(x).square().sum()).backward()
    peer(x).square().sum().backward()
    for name, parameter in named.items():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-3, atol=1e-4)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def model(make_photomaker, kind):
    return make_photomaker(lora_type=kind, lora_rank=4)


def saved(model, path):
    save_adapter(path, adapter_state(model), meta_of(model, crop_mode="none", project_version="0"))
    return path


def test_the_file_gives_the_same_model_at_any_strength(model, kind, make_batch, tmp_path):
    batch = make_batch(model)
    given = [batch.text, batch.class_index, batch.id_pixels, batch.id_counts, batch.time_ids]
    with torch.no_grad():
        conditioning = model.condition(*given)
        wanted = model.predict(batch.noisy, batch.timesteps, conditioning)
        with lora_off(model.unet):
            off = model.predict(batch.noisy, batch.timesteps, conditioning)
    state, meta = load_adapter(saved(model, tmp_path / "adapter.safetensors"))
    base = load_base(model.base.path)
    plain = base.predict(batch.noisy, batch.timesteps, conditioning)
    conditioner, change = PhotoMakerChoice.read(base, state, meta, check_base=True)
    switch = LoraSwitch(base.unet)
    with torch.no_grad():
        torch.testing.assert_close(conditioner.condition(*given).embeds, conditioning.embeds)
        torch.testing.assert_close(off, plain, atol=1e-5, rtol=1e-4)
        assert (wanted - plain).abs().max() > 1e-3
        for strength, expected in ((1.0, wanted), (0.0, plain)):
            switch.use(change.scaled(strength))
            made = base.predict(batch.noisy, batch.timesteps, conditioning)
            torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-3)


def test_formats_that_cannot_carry_it_say_so(model, kind, tmp_path):
    state, meta = adapter_state(model), meta_of(model, crop_mode="none", project_version="0")
    for save in (lambda: save_published(tmp_path / "a.bin", state), lambda: save_comfyui(tmp_path / "c", state, meta)):
        with pytest.raises(CheckpointError, match=f"lora_type={kind}"):
            save()
    if kind == "lokr":
        with pytest.raises(CheckpointError, match="lora_type=lokr"):
            save_diffusers(tmp_path / "d", state, meta)


def test_diffusers_loads_dora(make_photomaker, make_batch, tmp_path):
    model = make_photomaker(lora_type="dora", lora_rank=4)
    save_diffusers(tmp_path / "d", adapter_state(model), meta_of(model, crop_mode="none", project_version="0"))
    base, batch = load_base(model.base.path), make_batch(model)
    base.unet.load_lora_adapter(tmp_path / "d" / LORA, prefix="unet")
    with torch.no_grad():
        conditioning = model.condition(batch.text, batch.class_index, batch.id_pixels, batch.id_counts, batch.time_ids)
        wanted = model.predict(batch.noisy, batch.timesteps, conditioning)
        torch.testing.assert_close(
            base.predict(batch.noisy, batch.timesteps, conditioning), wanted, atol=1e-4, rtol=1e-3
        )


def test_training_starts_from_an_adapter_whose_lora_says_nothing_yet(model, kind, make_photomaker, tmp_path):
    silent, talking = make_photomaker(lively=False, lora_rank=4), make_photomaker(lora_rank=4)
    with torch.no_grad():
        silent.id_encoder.visual_projection_2.weight.fill_(0.5)
    before = {k: v for k, v in adapter_state(model).items() if k.startswith(LORA_PREFIX)}
    start_from(model, saved(silent, tmp_path / "silent.safetensors"))
    after = adapter_state(model)
    assert all(torch.equal(after[k], v) for k, v in before.items())  # of another type: the new ones stay
    assert (model.id_encoder.visual_projection_2.weight == 0.5).all()
    with pytest.raises(CheckpointError, match=f"lora_type=lora.*lora_type={kind}"):
        start_from(model, saved(talking, tmp_path / "talking.safetensors"))


def test_weights_that_are_split_are_lora_alone(model, kind, make_photomaker):
    check_lora_alone(make_photomaker(lora_rank=4))
    with pytest.raises(ConfigError, match=f"lora_type={kind} .* use engine=zero2"):
        check_lora_alone(model)


def test_pefts_layers_have_lora_alone(tiny_base):
    with pytest.raises(ConfigError, match="lora_impl=peft"):
        add_lora(load_base(tiny_base, ("unet",)).unet, 4, ("to_q",), "peft", "dora")
    assert strip({"lora_weights.a": torch.zeros(1)}, LORA_PREFIX)
