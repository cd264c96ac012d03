"""LoRA in training: our layer against PEFT's, in the same U-Net."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pm.errors import CheckpointError, ConfigError
from pm.model.base import load_base
from pm.model.lora import add_lora, load_lora, lora_off, lora_parameters
from pm.model.lora_linear import LoraLinear

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


@pytest.fixture(scope="module")
def unets(tiny_base):
    """The tiny base's U-Net with the same lively LoRA, once for each implementation."""
    made = {impl: load_base(tiny_base, ("unet",)).unet for impl in ("fused", "peft")}
    for impl, unet in made.items():
        add_lora(unet, 4, TARGETS, impl)
    state = {name: torch.randn_like(value) * 0.2 for name, value in lora_parameters(made["peft"], "unet.").items()}
    for unet in made.values():
        load_lora(unet, "unet.", state)
    return made


def run(unet):
    """Output, and gradients of the LoRA by name and of the input."""
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, unet.config.in_channels, 8, 8, generator=generator).requires_grad_()
    text = torch.randn(2, 5, unet.config.cross_attention_dim, generator=generator)
    pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
    more = {"text_embeds": torch.randn(2, pooled, generator=generator), "time_ids": torch.ones(2, 6)}
    output = unet(noisy, torch.tensor([10, 900]), text, added_cond_kwargs=more).sample
    unet.zero_grad()
    output.square().sum().backward()
    return output, {name: p.grad.clone() for name, p in lora_parameters(unet, "").items()} | {"input": noisy.grad}


def test_numbers_names_and_gradients_are_pefts(unets):
    (ours, grads), (theirs, expected) = run(unets["fused"]), run(unets["peft"])
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for name, grad in expected.items():
        torch.testing.assert_close(grads[name], grad, rtol=1e-4, atol=1e-6 * float(grad.abs().max()), msg=name)
    assert unets["fused"].state_dict().keys() == unets["peft"].state_dict().keys()
    named = [{name for name, p in unet.named_parameters() if p.requires_grad} for unet in unets.values()]
    assert named[0] == named[1] and all(".lora_" in name for name in named[0])


def test_called_by_parts_a_layer_computes_the_same():
    layer = LoraLinear(nn.Linear(8, 6), 2)
    nn.init.normal_(layer.matrices()[1])
    x = torch.randn(2, 3, 8)
    whole, layer.calls_parts = layer(x), True
    torch.testing.assert_close(layer(x), whole)


def test_without_its_lora_a_layer_is_the_bases(unets):
    unet, before = unets["fused"], run(unets["fused"])[0]
    layer = next(module for module in unet.modules() if isinstance(module, LoraLinear))
    x = torch.randn(3, layer.base_layer.in_features)
    with lora_off(unet):
        assert torch.equal(layer(x), layer.base_layer(x))
    assert not torch.equal(layer(x), layer.base_layer(x)) and torch.equal(run(unet)[0], before)


class Made(TorchDispatchMode):
    """Shapes and dtypes of all tensors that are made."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.found += [(str(func), tuple(out.shape), out.dtype)] if isinstance(out, torch.Tensor) else []
        return out


@pytest.mark.parametrize("autocast", [False, True])
def test_activations_never_become_float32(autocast):
    layer = LoraLinear(nn.Linear(32, 48).bfloat16().requires_grad_(False), 4)
    for half in (layer.lora_A, layer.lora_B):
        half.float()
    x = torch.randn(2, 7, 32).bfloat16().requires_grad_()
    with Made() as made, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = layer(x)
        y.backward(torch.ones_like(y))
    weights = {(4, 32), (32, 4), (48, 4), (4, 48)}
    assert y.dtype is torch.bfloat16 and layer.lora_B["photomaker"].weight.grad.dtype is torch.float32
    assert not [(op, shape) for op, shape, dtype in made.found if dtype is torch.float32 and shape not in weights]
    assert not [op for op, shape, _ in made.found if "copy" in op and shape not in weights]


def test_what_cannot_be_wrapped_is_said(tiny_base):
    unet = load_base(tiny_base, ("unet",)).unet
    with pytest.raises(ConfigError, match="LoRA target 'to_w' names no matrix"):
        add_lora(unet, 4, ("to_w",))
    with pytest.raises(ConfigError, match=r"name .*conv1, which is no linear layer; .* adapter.lora_impl=peft"):
        add_lora(unet, 4, ("conv1",))
    assert not [module for module in unet.modules() if isinstance(module, LoraLinear)]
    add_lora(unet, 4, TARGETS)
    with pytest.raises(CheckpointError, match="already carries an adapter"):
        add_lora(unet, 4, TARGETS, "peft")
