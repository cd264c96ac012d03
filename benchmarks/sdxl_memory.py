"""What a 1024 px portrait on SDXL needs of a device's memory, for each way of saving it, worked out without a GPU.

    python benchmarks/sdxl_memory.py            # the table of docs/scaling.md

The real modules are built on torch's meta device: shapes without numbers. Weights are counted; activations are the most
bytes that are alive at once during a forward pass without gradients, followed operation by operation, with the flash
kernel's attention. What is not counted: docs/scaling.md.
"""

import sys
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CLIPVisionConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fullsize import shapes  # noqa: E402
from benchmarks.fullsize.shapes import FULL, TOKENS, Size  # noqa: E402
from benchmarks.sdxl_budget import GIB  # noqa: E402
from pm.markdown import table  # noqa: E402
from pm.model.compose.stacked import Stacked  # noqa: E402
from pm.model.id_encoder import IdEncoder  # noqa: E402

FACTOR, PHOTOS = 8, 4  # px of a latent; ID photos of a request
RANK = 64
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True)
class Choice:
    """A way of keeping the parts."""

    name: str
    bytes_each: int  # of a number
    eight_bit: bool = False  # the U-Net's linear layers
    offload: str = "none"  # none | model: one part at a time | sequential: one layer at a time
    tiled: bool = False  # the VAE


CHOICES = (
    Choice("float32", 4),
    Choice("bfloat16", 2),
    Choice("bfloat16, VAE tiling", 2, tiled=True),
    Choice("bfloat16, quantize=int8 or fp8", 2, eight_bit=True),
    Choice("the same, VAE tiling", 2, eight_bit=True, tiled=True),
    Choice("bfloat16, model offload", 2, offload="model"),
    Choice("bfloat16, model offload, VAE tiling", 2, offload="model", tiled=True),
    Choice("int8 or fp8, model offload, VAE tiling", 2, eight_bit=True, offload="model", tiled=True),
    Choice("bfloat16, sequential offload, VAE tiling", 2, offload="sequential", tiled=True),
)


class Peak(TorchDispatchMode):
    """The most bytes of tensors that are alive at once, of those made inside; views of a model's weights are none."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.now, self.most = 0, 0
        self._known = {parameter.untyped_storage()._cdata for parameter in module.parameters()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._take(leaf.untyped_storage())
        return result

    def _take(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def parts(size: Size = FULL) -> dict[str, nn.Module]:
    """Everything that makes a portrait, in bfloat16 on the meta device."""
    build = shapes.builders(size)
    with torch.device("meta"):
        found = {
            "text encoders": nn.ModuleList([build["text_encoder"](), build["text_encoder_2"]()]),
            "id encoder": IdEncoder(
                CLIPVisionConfig(**shapes.vision(size)), sum(size.text), Stacked("stacked"), PHOTOS
            ),
            "U-Net": build["unet"](),
            "VAE": build["vae"](),
        }
    return {name: module.bfloat16().eval().requires_grad_(False) for name, module in found.items()}


def weights(module: nn.Module, choice: Choice, is_unet: bool) -> int:
    """Bytes of a part's weights; in 8 bits a linear weight has a byte each and a scale for each output channel."""
    linear = [m.weight for m in module.modules() if isinstance(m, nn.Linear)] if choice.eight_bit and is_unet else []
    plain = sum(p.numel() for p in module.parameters()) - sum(w.numel() for w in linear)
    return plain * choice.bytes_each + sum(w.numel() + w.shape[0] * choice.bytes_each for w in linear)


def adapter(unet: nn.Module, choice: Choice) -> int:
    """Bytes of one adapter's change of the U-Net: a copy of the matrices, or beside 8 bits the low-rank ones."""
    layers = [m for name, m in unet.named_modules() if name.endswith(tuple(f".{target}" for target in ATTENTION))]
    if choice.eight_bit:
        return sum(RANK * (m.in_features + m.out_features) for m in layers) * choice.bytes_each  # type: ignore[operator]
    return sum(m.weight.numel() for m in layers) * choice.bytes_each  # type: ignore[union-attr,operator]


def peak(module: nn.Module, call: Callable[[], Any]) -> int:
    """Bytes of activations of a forward pass in bfloat16."""
    with torch.no_grad(), patch.object(F, "scaled_dot_product_attention", _flash), Peak(module) as found:
        call()
    return found.most


def _flash(q: Tensor, k: Tensor, v: Tensor, *_: object, **__: object) -> Tensor:
    """No matrix of attention is ever whole."""
    return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]


def largest_layer(modules: Iterable[nn.Module]) -> int:
    """Numbers in the layer with most weights of its own."""
    return max(sum(p.numel() for p in m.parameters(recurse=False)) for module in modules for m in module.modules())


def activations(found: dict[str, nn.Module], size: Size = FULL) -> dict[str, int]:
    """Bytes by stage, in bfloat16: a guided step of a portrait, its decoding, whole or a tile, and encoding a photo."""
    latent, rows = size.resolution // FACTOR, 2
    kind: dict[str, Any] = {"device": "meta", "dtype": torch.bfloat16}
    added = {"text_embeds": torch.empty(rows, size.text[1], **kind), "time_ids": torch.empty(rows, 6, **kind)}
    noisy = torch.empty(rows, 4, latent, latent, **kind)
    text = torch.empty(rows, TOKENS + PHOTOS - 1, sum(size.text), **kind)
    photo = torch.empty(1, 3, size.resolution, size.resolution, **kind)
    times = torch.zeros(rows, device="meta")
    unet, vae = found["U-Net"], found["VAE"]
    tile = latent // 2  # diffusers' tile for this VAE: 512 of 1024 px
    return {
        "step": peak(unet, lambda: unet(noisy, times, text, added_cond_kwargs=added).sample),
        "decode": peak(vae, lambda: vae.decode(noisy[:1]).sample),
        "tile": peak(vae, lambda: vae.decode(noisy[:1, :, :tile, :tile]).sample),
        "encode": peak(vae, lambda: vae.encode(photo).latent_dist.mean),
    }


def line(choice: Choice, found: dict[str, nn.Module], alive: dict[str, int]) -> list[str]:
    """Memory while prompts and photos are read, while the U-Net runs, and while the VAE decodes; the most of these."""
    sizes = {name: weights(module, choice, name == "U-Net") for name, module in found.items()}
    # An offloaded U-Net gets its matrices where it rests; the copies they come from stay there.
    copies = 1 if choice.eight_bit else 0 if choice.offload != "none" else 2
    sizes["U-Net"] += copies * adapter(found["U-Net"], choice)
    scale = choice.bytes_each / 2
    image = 3 * FULL.resolution**2 * choice.bytes_each  # the tiles are put together into it
    decoding = (alive["tile"] * scale + image) if choice.tiled else alive["decode"] * scale
    all_parts, layer = sum(sizes.values()), largest_layer(found.values()) * choice.bytes_each
    reading = sizes["text encoders"] + sizes["id encoder"]
    held = {
        "none": (all_parts, all_parts, all_parts),
        "model": (reading, sizes["U-Net"], sizes["VAE"]),
        "sequential": (layer, layer, layer),
    }[choice.offload]
    stages = [held[0], held[1] + alive["step"] * scale, held[2] + decoding]
    return [choice.name, *(f"{value / GIB:.2f}" for value in stages), f"**{max(stages) / GIB:.1f}**"]


def main() -> None:
    found = parts()
    alive = activations(found)
    for name, module in found.items():
        print(f"{name}: {sum(p.numel() for p in module.parameters()):,} parameters")
    print({name: f"{value / GIB:.2f} GiB" for name, value in alive.items()})
    head = ["GiB, one guided portrait of 1024 px", "prompt, photos", "U-Net step", "VAE decode", "most"]
    print(table(head, [line(choice, found, alive) for choice in CHOICES]))


if __name__ == "__main__":
    main()
