"""A step queues work on the device and does nothing that the host would wait for, whatever rows it has."""

import functools

import pytest
import torch
from diffusers import UNet2DConditionModel
from support.no_sync import FAKE, Waits, fake_cuda

from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.families.sdxl import StableDiffusionXL
from pm.model.fused import FusedLora, LoraSwitch
from pm.model.loras.beside import LoraSet, RowLoras
from pm.model.loras.change import LowRank
from pm.model.loras.file import PartChange
from pm.sample.row import Row
from pm.sample.sampler import Sampler
from pm.sample.schedule import Schedule

CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
L, D, P = 5, 8, 8


def plans():
    """Made, and read by the host, where tensors have numbers."""
    kinds = {"ddim": 0.0, "tcd": 0.3, "dpmpp_2m": 0.0, "unipc": 0.0, "euler_ancestral": 0.0, "dpmpp_2m_sde": 0.0}
    found = {kind: Schedule(kind, CONFIG).plan(4, eta) for kind, eta in kinds.items()}
    for plan in found.values():
        assert plan.times and plan.draws and plan.signal_and_noise
    return found


def unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=D,
        attention_head_dim=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=P + 6 * 4,
    )


def row(plan, tokens: int = L, **fields) -> Row:
    text = TextFeatures(torch.randn(1, L, D), torch.randn(1, P))
    plain = Conditioning.from_text(text, torch.zeros(1, 6))
    mask = torch.ones(1, tokens, dtype=torch.bool)
    told = Conditioning(torch.randn(1, tokens, D), mask, text.pooled, plain.time_ids, text.embeds, text.pooled)
    given = {"guidance": 3.0, "merge_step": 0, "seed": 0, "shape": (4, 8, 8)} | fields
    return Row(told, TextFeatures(torch.zeros(1, L, D), torch.zeros(1, P)), plan, **given)


def adapter(net) -> FusedLora:
    state = {}
    for name, module in net.named_modules():
        if name.endswith((".to_q", ".to_k", ".to_v", ".to_out.0")):
            state[f"unet.{name}.lora_A.weight"] = torch.randn(2, module.in_features)
            state[f"unet.{name}.lora_B.weight"] = torch.randn(module.out_features, 2)
    return FusedLora(net, "unet.", state)


def loras(net) -> PartChange:
    names = [name for name, _ in net.named_modules() if name.endswith(("attn1.to_q", "attn2.to_v"))]
    layers = {name: net.get_submodule(name) for name in names}
    low = {n: LowRank(torch.randn(2, m.in_features), torch.randn(m.out_features, 2)) for n, m in layers.items()}
    return PartChange(low).to(FAKE, torch.float32)


def test_a_step_of_mixed_rows_neither_copies_from_the_host_nor_waits(monkeypatch):
    made = plans()
    with fake_cuda(monkeypatch) as device:
        with FAKE:
            net = unet()
        predict = functools.partial(StableDiffusionXL("sdxl").predict, net, max_tokens=L)
        switch = LoraSwitch(net)
        sampler, own = Sampler(net, predict, switch, isolate=False), adapter(net)
        together = LoraSet((loras(net),))
        for new in (
            row(made["ddim"]),
            row(made["dpmpp_2m"], tokens=L + 2, merge_step=2),
            row(made["unipc"], guidance=1.0),
            row(made["ddim"], guided=(1, 3), guidance_rescale=0.5, merge_end=2),
            row(made["euler_ancestral"], tokens=L + 1),
            row(made["tcd"], loras=RowLoras(together, (0.5,))),
            row(made["dpmpp_2m_sde"], loras=RowLoras(together, (1.5,))),
            row(made["ddim"], lora=own),
        ):
            sampler.add(new)
        switch.prepare(own)
        # Four steps, in which rows merge, begin and end to be guided, and finish. What a step has found is read two
        # steps later, where the device has long computed it: here it has not, so that is left out.
        monkeypatch.setattr(sampler, "_settle", lambda wait_for=None: None)
        with device.strict():
            for _ in range(4):
                sampler.step()
        assert len(sampler) == 0 and len(sampler._ended) == 8 and device.operators > 500


def test_what_a_step_would_wait_for_is_noticed(monkeypatch):
    """So that the test above can fail."""
    with fake_cuda(monkeypatch) as device:
        x = torch.zeros(2, 3, device=FAKE)
        bad = (
            lambda: x[0, 0].item(),
            lambda: x.tolist(),
            lambda: bool((x > 0).any()),
            lambda: torch.tensor([1.0], device=FAKE),
            lambda: x[[1, 0]],
            lambda: torch.ones(3).to(FAKE),
            lambda: x.cpu(),
            lambda: torch.cuda.Event().synchronize(),
            lambda: torch.ones(3) + x,
        )
        with device.strict():
            for each in bad:
                with pytest.raises((Waits, RuntimeError, NotImplementedError)):
                    each()
            assert (x[1] * 2).shape == (3,)
