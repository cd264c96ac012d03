"""`engine=auto`, by an estimate at SDXL's size."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel
from support.training import train_config
from torch import nn

from pm.model.lora import add_lora
from pm.train.engine import auto
from pm.train.engine.memory import BESIDE, level, unet_bytes

GIB = 2**30
GPU = torch.device("cuda")
SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


@pytest.fixture(scope="module")
def step():
    """A step around SDXL's U-Net with LoRA, without numbers."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL).bfloat16()
        add_lora(unet, 64, ("to_q", "to_k", "to_v", "to_out.0"))
    model = nn.Module()
    model.unet, model.base = unet, SimpleNamespace(latent_size=128)
    step = nn.Module()
    step.photomaker = model
    return step


def test_the_estimate_of_activations_is_that_of_the_whole_count(step):
    """benchmarks/sdxl_budget.py follows every tensor: 6.65 GiB in the U-Net's blocks; 0.39 of inputs, 0.22 the largest.

    Inputs are counted in bf16 alone, so a little less is expected of them.
    """
    unet = step.photomaker.unet
    assert unet_bytes(unet, 128, 1) / GIB == pytest.approx(6.65, rel=0.05)
    assert unet_bytes(unet, 128, 6) == pytest.approx(6 * unet_bytes(unet, 128, 1))
    unet.enable_gradient_checkpointing()
    assert unet_bytes(unet, 128, 1) / GIB == pytest.approx(0.61, rel=0.15)
    assert [level(name, 3) for name in ("down_blocks.1.x", "mid_block.y", "up_blocks.0.z", "up_blocks.2.z")] == [
        *(1, 2, 2, 0)
    ]


def test_the_fastest_engine_that_fits_is_taken_and_said(step, monkeypatch):
    monkeypatch.setattr("pm.train.engine.base.world_size", lambda: 8)
    train, choice = train_config(batch_size=48), auto.AutoChoice("auto", 0.85)
    needs = {stage: auto.needed(step, train, stage, 8) for stage in (0, 2, 3)}
    assert needs[0] > needs[2] > needs[3] > BESIDE
    for stage, name in ((0, "ddp"), (2, "zero2"), (3, "zero3")):
        monkeypatch.setattr(auto, "least_free", lambda device, stage=stage: 1.001 * needs[stage] / 0.85)
        chosen, why = choice.settled(step, train, GPU)
        assert getattr(chosen, "stage", 0) == stage and why.startswith(f"engine=auto: {name}, by estimate ")
        assert "may not fit" not in why
    monkeypatch.setattr(auto, "least_free", lambda device: needs[3])
    chosen, why = choice.settled(step, train, GPU)
    assert chosen.stage == 3 and "may not fit: lower train.micro_batch_size" in why


def test_without_a_gpu_or_with_one_worker_nothing_is_split(step, monkeypatch):
    assert auto.AutoChoice("auto", 0.85).settled(step, train_config(), torch.device("cpu"))[0].name == "ddp"
    monkeypatch.setattr(auto, "least_free", lambda device: GIB)
    assert auto.AutoChoice("auto", 0.85).settled(step, train_config(), GPU)[0].name == "ddp"
