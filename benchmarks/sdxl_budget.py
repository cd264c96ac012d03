"""What training on SDXL needs, worked out without a GPU: memory for each ZeRO stage, FLOPs and time of a step.

    python benchmarks/sdxl_budget.py            # the tables of docs/scaling.md

The real modules (SDXL's U-Net with this project's LoRA, CLIP ViT-L/14 with the fusion) are built on torch's meta
device: shapes without numbers. Parameters are counted, FLOPs are torch's own count over one forward and backward pass,
and activations are the tensors that autograd keeps for it. What is assumed and not counted: docs/scaling.md.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
import yaml
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.fullsize import shapes  # noqa: E402
from benchmarks.fullsize.shapes import FULL, TOKENS, Size  # noqa: E402
from pm.markdown import table  # noqa: E402
from pm.model.compose.stacked import Stacked  # noqa: E402
from pm.model.id_encoder import IdEncoder  # noqa: E402
from pm.model.lora import add_lora  # noqa: E402
from pm.train.engine.memory import Weights, weight_bytes  # noqa: E402

GIB = 2**30
SDXL_UNET, TEXT_WIDTH, POOLED = shapes.unet(FULL), sum(FULL.text), FULL.text[1]
# Dense bf16 peaks by the makers' data sheets, and the share of them that a diffusion U-Net is assumed to reach.
PEAK = {"A100": 312e12, "H100 SXM": 989e12}
UTILISATION = 0.40
# A product that adds itself to what is there already, of which torch's counter does not know.
IN_PLACE = {torch.ops.aten.addmm_: lambda y, a, b, *_, out_shape=None, **__: 2 * a[0] * a[1] * b[1]}


@dataclass(frozen=True)
class Counts:
    """Of one model; activations and FLOPs of one sample."""

    unet: int  # frozen weights
    lora: int
    tower_frozen: int  # of the vision tower
    id_encoder: int  # trained: the upper tower, projections, fusion
    activations: float  # bytes that autograd keeps
    checkpointed: float  # the same with gradient checkpointing: inputs of the blocks and the largest block
    forward: float  # FLOPs
    backward: float

    @property
    def trained(self) -> int:
        return self.lora + self.id_encoder


def build(size: Size, rank: int, targets: tuple[str, ...], train_layers: int) -> tuple[nn.Module, IdEncoder]:
    """U-Net with LoRA and id encoder on the meta device, in bf16."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**shapes.unet(size)).bfloat16()
        add_lora(unet, rank, targets)
        encoder = IdEncoder(CLIPVisionConfig(**shapes.vision(size)), sum(size.text), Stacked("stacked"), 4).bfloat16()
    encoder.freeze_below(train_layers)
    return unet, encoder


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """On the meta device, what autocast and the flash kernel do on a GPU: products in bf16, norms in fp32, no attention
    matrix kept."""
    group_norm, layer_norm, linear, conv = F.group_norm, F.layer_norm, F.linear, F.conv2d

    def up(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.float()

    def down(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.bfloat16()

    def attention(q: Tensor, k: Tensor, v: Tensor, *_: object, **__: object) -> Tensor:
        return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]

    with (
        patch.object(F, "group_norm", lambda x, n, w=None, b=None, e=1e-5: group_norm(up(x), n, up(w), up(b), e)),
        patch.object(F, "layer_norm", lambda x, s, w=None, b=None, e=1e-5: layer_norm(up(x), s, up(w), up(b), e)),
        patch.object(F, "linear", lambda x, w, b=None: linear(down(x), down(w), down(b))),
        patch.object(F, "conv2d", lambda x, w, b=None, *a, **k: conv(down(x), down(w), down(b), *a, **k)),
        patch.object(F, "scaled_dot_product_attention", attention),
    ):
        yield


class Kept:
    """Bytes of the tensors that autograd keeps, by the block (see `BLOCKS`) that they were made in."""

    BLOCKS = ("BasicTransformerBlock", "ResnetBlock2D", "CLIPEncoderLayer")

    def __init__(self, *modules: nn.Module):
        self.bytes: dict[str, float] = defaultdict(float)
        self.inputs = 0.0  # of the blocks, what checkpointing keeps instead
        self._seen: dict[int, Tensor] = {}
        self._block = "outside"
        self._parameters = {id(p.untyped_storage()) for m in modules for p in m.parameters()}
        self._weights = {id(p) for m in modules for p in m.parameters()}
        for module in modules:
            for name, child in module.named_modules():
                if type(child).__name__ in self.BLOCKS:
                    child.register_forward_pre_hook(self._enter(name))
                    child.register_forward_hook(self._leave)

    def _enter(self, name: str) -> Callable:
        def hook(_: nn.Module, inputs: tuple) -> None:
            self._block = name
            self.inputs += sum(x.nbytes for x in inputs if isinstance(x, Tensor))

        return hook

    def _leave(self, *_: object) -> None:
        self._block = "outside"

    def pack(self, x: Tensor) -> Tensor:
        key = x.untyped_storage()._cdata
        if id(x) not in self._weights and not isinstance(x, nn.Parameter) and key not in self._seen:
            if x._base is None or not isinstance(x._base, nn.Parameter):  # a weight seen from its side is no activation
                self.bytes[self._block] += x.untyped_storage().nbytes()
            self._seen[key] = x
        return x


def measure(rank: int, targets: tuple[str, ...], train_layers: int, references: int, size: Size = FULL) -> Counts:
    """Count one sample: one forward and backward pass with `references` ID images."""
    unet, encoder = build(size, rank, targets, train_layers)
    kept = Kept(unet, encoder)

    def sample() -> Tensor:
        pixels = torch.empty(references, 3, size.vision_side, size.vision_side, dtype=torch.bfloat16, device="meta")
        counts = torch.empty(1, dtype=torch.long, device="meta")
        embeds = encoder.embed(pixels)
        fused = encoder.fuse_module(torch.empty_like(embeds), embeds)
        text = torch.empty(1, TOKENS - 1, sum(size.text), dtype=torch.bfloat16, device="meta")
        states = torch.cat([text, fused[None].to(text)], dim=1)
        more = {"text_embeds": torch.empty(1, size.text[1], dtype=torch.bfloat16, device="meta")}
        more["time_ids"] = torch.empty(1, 6, dtype=torch.bfloat16, device="meta")
        side = size.resolution // 8
        noisy = torch.empty(1, 4, side, side, dtype=torch.bfloat16, device="meta")
        return unet(noisy, counts, states, added_cond_kwargs=more, return_dict=False)[0]

    with as_on_a_gpu(), FlopCounterMode(display=False, custom_mapping=IN_PLACE) as forward:
        with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda x: x):
            loss = sample().float().square().mean()
        done = forward.get_total_flops()
        loss.backward()
        total = forward.get_total_flops()
    blocks = {name: size for name, size in kept.bytes.items() if name != "outside"}
    rest = kept.bytes["outside"]
    lora = sum(p.numel() for p in unet.parameters() if p.requires_grad)
    trained = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    return Counts(
        unet=sum(p.numel() for p in unet.parameters()) - lora,
        lora=lora,
        tower_frozen=sum(p.numel() for p in encoder.parameters()) - trained,
        id_encoder=trained,
        activations=sum(kept.bytes.values()),
        checkpointed=rest + kept.inputs + max(blocks.values()),
        forward=done,
        backward=total - done,
    )


def memory(c: Counts, stage: int, gpus: int, samples: int, checkpointing: bool) -> dict[str, float]:
    """Bytes on each GPU, as `engine=auto` counts them; activations as they were followed here.

    The frozen U-Net is in bf16, the vision tower's frozen layers are in fp32.
    """
    result = weight_bytes(Weights(2 * c.unet + 4 * c.tower_frozen, c.trained), stage, gpus)
    result["activations"] = samples * (c.checkpointed if checkpointing else c.activations)
    return result


def paper() -> tuple[dict, int, int]:
    """The adapter's settings, batch and GPUs of `experiment=paper`."""
    read = lambda name: yaml.safe_load((ROOT / f"conf/{name}.yaml").read_text())  # noqa: E731
    adapter = read("model/photomaker") | {"merge": "insert"}
    return adapter, read("experiment/sdxl")["train"], read("experiment/paper")["workers"]["num"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=4, help="ID images of a sample; 4 is the most, 2.5 the mean")
    parser.add_argument("--gpus", type=int, help="default: the paper's 8")
    parser.add_argument("--batch", type=int, help="of one step over all GPUs; default: the paper's 48")
    options = parser.parse_args()
    adapter, train, gpus = paper()
    gpus, batch = options.gpus or gpus, options.batch or train["batch_size"]
    targets = tuple(adapter["lora_targets"])
    c = measure(adapter["lora_rank"], targets, adapter["train_layers"], options.references)
    print_counts(c, options.references)
    for samples in (1, batch // gpus):
        print_memory(c, gpus, samples)
    print_time(c, gpus, batch, train["steps"])


def print_counts(c: Counts, references: int) -> None:
    rows = [
        ["U-Net, frozen", f"{c.unet:,}"],
        ["LoRA, trained", f"{c.lora:,}"],
        ["vision tower, frozen layers", f"{c.tower_frozen:,}"],
        ["id encoder, trained", f"{c.id_encoder:,}"],
        ["adapter file and checkpoint weights (fp32, GiB)", f"{4 * c.trained / GIB:.2f}"],
        ["activations a sample (GiB)", f"{c.activations / GIB:.2f}"],
        ["activations a sample, checkpointed (GiB)", f"{c.checkpointed / GIB:.2f}"],
        ["forward of a sample (TFLOP)", f"{c.forward / 1e12:.2f}"],
        ["backward of a sample (TFLOP)", f"{c.backward / 1e12:.2f}"],
    ]
    print(f"\n{table([f'{references} references', ''], rows)}")


def print_memory(c: Counts, gpus: int, samples: int) -> None:
    columns = {"ddp": 0, "zero1": 1, "zero2": 2, "zero3": 3}
    rows: dict[str, list[str]] = defaultdict(list)
    for stage in columns.values():
        for checkpointing in (True, False):
            parts = memory(c, stage, gpus, samples, checkpointing)
            for name, size in parts.items():
                label = name if name != "activations" else f"activations{', checkpointed' if checkpointing else ''}"
                if name == "activations" or checkpointing:
                    rows[label].append(f"{size / GIB:.2f}")
            rows[f"**sum{', checkpointed' if checkpointing else ''}**"].append(f"**{sum(parts.values()) / GIB:.1f}**")
    header = [f"GiB on each of {gpus} GPUs, {samples} samples a pass", *columns]
    order = sorted(rows, key=lambda name: (name.startswith("**"), name.startswith("activations")))
    print(f"\n{table(header, [[name, *rows[name]] for name in order])}")


def print_time(c: Counts, gpus: int, batch: int, steps: int) -> None:
    plain, recomputed = c.forward + c.backward, 2 * c.forward + c.backward
    rows = []
    for name, peak in PEAK.items():
        for label, flops in (("kept", plain), ("checkpointed", recomputed)):
            seconds = flops * batch / gpus / (peak * UTILISATION)
            days = seconds * steps / 86400
            rows.append([f"{gpus} x {name}", label, f"{flops * batch / 1e15:.2f}", f"{seconds:.2f}", f"{days:.1f}"])
    print(f"\n{table(['', 'activations', 'PFLOP a step', 's a step', f'days for {steps:,} steps'], rows)}")


if __name__ == "__main__":
    main()
