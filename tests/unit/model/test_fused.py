"""Adapters put into a U-Net's own tensors, kept within a budget, and made beside the steps."""

import threading

import pytest
import torch
from torch import nn

from pm.model.fused import FusedLora, LoraSwitch

SIZE = 64 * 64 * 4 * 2  # bytes of one adapter's matrices


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_q, self.to_k, self.other = (nn.Linear(64, 64, bias=False) for _ in range(3))

    def forward(self, x):
        return self.other(self.to_q(x) + self.to_k(x).tanh())


@pytest.fixture
def unet():
    torch.manual_seed(0)
    return nn.ModuleDict({"block": nn.ModuleDict({"attn1": Attention()})}).requires_grad_(False)


def lora(unet, seed: int) -> FusedLora:
    torch.manual_seed(seed)
    state = {}
    for layer in ("block.attn1.to_q", "block.attn1.to_k"):
        state[f"unet.{layer}.lora_A.weight"], state[f"unet.{layer}.lora_B.weight"] = torch.randn(2, 4, 64).unbind()
        state[f"unet.{layer}.lora_B.weight"] = state[f"unet.{layer}.lora_B.weight"].t().contiguous()
    return FusedLora(unet, "unet.", state)


def weights(unet) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in unet.named_parameters()}


def test_a_switch_writes_into_tensors_that_stay_where_they_are(unet):
    """What CUDA graphs and compiled code have recorded are addresses."""
    places, plain = {name: p.data_ptr() for name, p in unet.named_parameters()}, weights(unet)
    switch, one, two = LoraSwitch(unet), lora(unet, 1), lora(unet, 2)
    for change in (one, two, None, two, one, None):
        switch.use(change)
        for name, value in weights(unet).items():
            delta = 0 if change is None or "other" in name else change.delta(name.removesuffix(".weight"))
            assert torch.equal(value, plain[name] + delta)
    assert places == {name: p.data_ptr() for name, p in unet.named_parameters()}


def test_matrices_that_no_row_uses_are_dropped_within_the_budget_and_made_again(unet):
    plain, changes = weights(unet), [lora(unet, seed) for seed in range(4)]
    switch = LoraSwitch(unet, budget=2 * SIZE)
    switch.use(changes[0])
    assert changes[0].fused is None and switch.nbytes == 0  # one alone is in the U-Net and nowhere else
    for change in changes[1:]:
        switch.use(change)
    assert [change.fused is not None for change in changes] == [False, True, True, False]
    assert switch.nbytes == 2 * SIZE and switch.dropped == 1
    # Rows on their way have these three: nothing of theirs is dropped, whatever the budget, nor made twice.
    switch.in_use(changes[:3])
    for change in [*changes[:3], *changes[:3]]:
        switch.use(change)
    made = [change.fused for change in changes[:3]]
    switch.use(changes[0])
    assert switch.nbytes == 3 * SIZE and all(a is c.fused for a, c in zip(made, changes[:3], strict=True))
    switch.prepare(changes[3])
    assert changes[3].fused is not None and switch.nbytes == 4 * SIZE
    switch.in_use([changes[2]])
    assert switch.nbytes <= 3 * SIZE and changes[2].fused is not None
    # What was dropped is made from the base's own matrices, whatever is in place.
    for change in (changes[1], changes[0]):
        switch.use(change)
        delta = change.delta("block.attn1.to_q")
        assert torch.equal(unet.block.attn1.to_q.weight, plain["block.attn1.to_q.weight"] + delta)
    changes.clear()
    switch.in_use([])
    switch.use(None)
    del change, made
    assert switch.nbytes == 0  # adapters that are unloaded are forgotten
    assert all(torch.equal(value, plain[name]) for name, value in weights(unet).items())


def test_matrices_are_made_beside_the_steps_of_another_thread(unet, monkeypatch):
    """Whatever adapter is in place meanwhile; the switch does not wait."""
    plain, one, two = weights(unet), lora(unet, 1), lora(unet, 2)
    switch, begun, go = LoraSwitch(unet), threading.Event(), threading.Event()
    make = two.weights

    def slow(own):
        begun.set()
        assert go.wait(10)
        return make(own)

    monkeypatch.setattr(two, "weights", slow)
    thread = threading.Thread(target=switch.prepare, args=(two,))
    thread.start()
    assert begun.wait(10)
    switch.use(one)
    assert torch.equal(unet.block.attn1.to_k.weight, plain["block.attn1.to_k.weight"] + one.delta("block.attn1.to_k"))
    go.set()
    thread.join()
    monkeypatch.setattr(two, "weights", None)  # it is not asked again
    switch.use(two)
    assert torch.equal(unet.block.attn1.to_k.weight, plain["block.attn1.to_k.weight"] + two.delta("block.attn1.to_k"))
