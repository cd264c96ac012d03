"""What training needs of a GPU's memory, counted and not measured (docs/scaling.md).

Frozen weights keep their dtype. Trained weights, gradients and AdamW's two moments are float32. ZeRO 1 splits the
moments and DeepSpeed's flat float32 copy of the weights, ZeRO 2 the gradients as well, ZeRO 3 also the weights, frozen
ones too.
Autocast keeps bf16 copies of the trained weights for the backward pass.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

# Bytes that autograd keeps of a block in bf16 autocast, for each pixel or token and channel: fitted to SDXL's blocks
# with LoRA, of which benchmarks/sdxl_budget.py follows every tensor on the meta device.
TRANSFORMER, RESNET_IN, RESNET_OUT, TOWER = 57.1, 10.0, 12.0, 48.1
# What CUDA, cuDNN's workspaces, the allocator's unused blocks and DeepSpeed's buckets take beside.
BESIDE = 2 * 2**30


@dataclass(frozen=True)
class Weights:
    """Bytes and elements of a module's weights."""

    frozen: int  # bytes
    trained: int  # elements

    @classmethod
    def of(cls, module: nn.Module) -> "Weights":
        """Those of a module that is not split yet."""
        frozen = sum(p.numel() * p.element_size() for p in module.parameters() if not p.requires_grad)
        return cls(frozen, sum(p.numel() for p in module.parameters() if p.requires_grad))


def weight_bytes(weights: Weights, stage: int, workers: int) -> dict[str, float]:
    """What each worker holds besides activations, by name.

    Args:
        weights: of the module.
        stage: of ZeRO; 0: ddp.
        workers: that share it.
    """
    split = lambda n, from_stage: n / workers if stage >= from_stage else n  # noqa: E731
    copy = 4 * weights.trained if stage > 0 else 0
    return {
        "frozen weights (bf16)": split(weights.frozen, 3),
        "trained weights (fp32)": split(4 * weights.trained, 3),
        "gradients (fp32)": split(4 * weights.trained, 2),
        "their bf16 copies (autocast)": 2 * weights.trained,
        "optimizer (fp32 moments, ZeRO's flat copy)": split(8 * weights.trained + copy, 1),
    }


def unet_bytes(unet: Any, latent: int, samples: int, bf16: bool = True) -> float:
    """What autograd keeps of a diffusers U-Net's blocks for the backward pass.

    With gradient checkpointing: the inputs of the blocks, and the largest block while it is computed again.

    Args:
        unet: a `UNet2DConditionModel`.
        latent: side of the latents.
        samples: of a forward pass.
        bf16: under autocast; else twice as much.
    """
    inputs, kept = [0.0], [0.0]
    for name, module in unet.named_modules():
        kind = type(module).__name__
        if kind not in ("BasicTransformerBlock", "ResnetBlock2D"):
            continue
        pixels = samples * (latent >> level(name, len(unet.config.block_out_channels))) ** 2
        width = module.norm1.weight.shape[0]
        inputs.append(2 * pixels * width)
        if kind == "ResnetBlock2D":
            kept.append(pixels * (RESNET_IN * width + RESNET_OUT * module.norm2.weight.shape[0]))
        else:
            kept.append(pixels * TRANSFORMER * width)
    found = sum(inputs) + max(kept) if unet.is_gradient_checkpointing else sum(kept)
    return found if bf16 else 2 * found


def tower_bytes(tower: Any, photos: int, bf16: bool = True) -> float:
    """The same of the trained layers of a CLIP vision tower, for so many photos."""
    config = tower.config
    tokens = photos * ((config.image_size // config.patch_size) ** 2 + 1) * config.hidden_size
    trained = sum(any(p.requires_grad for p in layer.parameters()) for layer in tower.encoder.layers)
    checkpointed = getattr(tower, "is_gradient_checkpointing", False)
    found = tokens * (2 * trained + TOWER if checkpointed else TOWER * trained)
    return found if bf16 else 2 * found


def level(name: str, levels: int) -> int:
    """How often the latents are halved in a block, from its name in the U-Net."""
    kind, number = name.split(".")[:2]
    if kind == "mid_block":
        return levels - 1
    return int(number) if kind == "down_blocks" else levels - 1 - int(number)
