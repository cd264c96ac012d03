"""This project's LoRA layer against PEFT's, at SDXL's size: operations of a step, what autograd keeps, and time.

    python benchmarks/lora_layers.py            # operations and bytes: shapes only, no GPU needed
    python benchmarks/lora_layers.py --time     # also a transformer block at its full width, on this machine's CPU

Operations are those that torch dispatches for one sample of 1024 px on its meta device, with the casts of bfloat16
autocast. On a GPU each is a kernel to start, at least; what only looks at a tensor in another way is not counted. The
two layers are timed in turns, on the same numbers.
"""

import argparse
import statistics
import time
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from sdxl_budget import POOLED, SDXL_UNET, TEXT_WIDTH, TOKENS, as_on_a_gpu
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pm.markdown import table
from pm.model.lora import add_lora

RANK, TARGETS = 64, ("to_q", "to_k", "to_v", "to_out.0")
IMPLS: tuple[Any, ...] = ("peft", "fused")
# Of the block in the middle of SDXL's U-Net at 1024 px: 60 of its 70 blocks are as wide.
WIDTH, HEADS, SIDE = 1280, 20, 32
# What only looks at a tensor in another way, or allocates: no kernel.
_FREE = ("view", "reshape", "transpose", "permute", "expand", "slice", "select", "split", "chunk", "detach", "squeeze")
_FREE += ("unsqueeze", "alias", "as_strided", "empty", "new_empty", "t.", "is_", "unbind", "set_")


class Operations(TorchDispatchMode):
    """Counts what is dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.").lstrip("_").removeprefix("unsafe_")
        self.count += not name.startswith(_FREE)
        return func(*args, **(kwargs or {}))


class Kept:
    """Bytes that autograd keeps for the backward pass, weights left out."""

    def __init__(self, module: nn.Module) -> None:
        self._weights = {p.untyped_storage()._cdata for p in module.parameters()}
        self._seen: dict[int, Tensor] = {}

    def pack(self, x: Tensor) -> Tensor:
        key = x.untyped_storage()._cdata
        if key not in self._weights:
            self._seen[key] = x
        return x

    @property
    def bytes(self) -> int:
        return sum(x.untyped_storage().nbytes() for x in self._seen.values())


def trained(module: Any, impl: Any) -> Any:
    """The module with LoRA as training has it: frozen weights in bfloat16, trained ones in float32."""
    module = module.bfloat16().train()
    add_lora(module, RANK, TARGETS, impl)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return module


def operations(impl: Any, checkpointing: bool) -> dict[str, float]:
    """Of one training step of the whole U-Net, one sample."""
    with torch.device("meta"):
        unet = trained(UNet2DConditionModel(**SDXL_UNET), impl)
    if checkpointing:
        unet.enable_gradient_checkpointing()
    kept = Kept(unet)
    make = lambda *shape: torch.empty(shape, dtype=torch.bfloat16, device="meta")  # noqa: E731
    side = SDXL_UNET["sample_size"]
    more = {"text_embeds": make(1, POOLED), "time_ids": torch.empty(1, 6, device="meta")}
    noisy, timestep, text = make(1, 4, side, side), torch.empty(1, device="meta"), make(1, TOKENS, TEXT_WIDTH)
    with as_on_a_gpu():
        with Operations() as forward, torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda x: x):
            output = unet(noisy, timestep, text, added_cond_kwargs=more, return_dict=False)[0]
        with Operations() as backward:
            output.float().square().mean().backward()
    return {"forward": forward.count, "backward": backward.count, "kept": kept.bytes / 2**30}


def block(impl: Any) -> nn.Module:
    """One transformer block with numbers in it, the same for every `impl`."""

    class Blocks(nn.Module):  # targets are searched by what stands behind a dot
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.block = BasicTransformerBlock(
                WIDTH, HEADS, WIDTH // HEADS, cross_attention_dim=TEXT_WIDTH, activation_fn="geglu"
            )

        def forward(self, x: Tensor, text: Tensor) -> Tensor:
            return self.block(x, encoder_hidden_states=text)

        def add_adapter(self, config: Any, adapter_name: str) -> None:
            from peft import inject_adapter_in_model

            inject_adapter_in_model(config, self, adapter_name)

    return trained(Blocks(), impl)


def seconds(module: nn.Module, x: Tensor, text: Tensor) -> float:
    """Of one forward and backward pass."""
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        output = module(x, text)
    output.float().square().mean().backward()
    return time.perf_counter() - start


def time_blocks(rounds: int) -> None:
    blocks = {impl: block(impl) for impl in IMPLS}
    x = torch.randn(1, SIDE**2, WIDTH, dtype=torch.bfloat16).requires_grad_()
    text = torch.randn(1, TOKENS, TEXT_WIDTH, dtype=torch.bfloat16)
    times: dict[str, list[float]] = {impl: [] for impl in IMPLS}
    for number in range(rounds + 1):
        for impl, module in blocks.items():
            took = seconds(module, x, text)
            if number:  # the first one allocates
                times[impl].append(took)
    ratios = [a / b for a, b in zip(*times.values(), strict=True)]
    rows = [[impl, f"{1000 * statistics.median(times[impl]):.0f}"] for impl in IMPLS]
    print(f"\n{table([f'block of {WIDTH}, {SIDE}x{SIDE}', 'forward and backward, ms'], rows)}")
    quartiles = statistics.quantiles(ratios, n=4)
    print(
        f"\npeft / fused: {statistics.median(ratios):.3f} ({quartiles[0]:.3f} to {quartiles[2]:.3f}, {rounds} rounds)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", action="store_true", help="also measure a block on this CPU")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    rows = []
    for checkpointing in (False, True):
        for impl in IMPLS:
            found = operations(impl, checkpointing)
            shown = [str(found["forward"]), str(found["backward"]), f"{found['kept']:.2f}"]
            rows.append([impl, "yes" if checkpointing else "no", *shown])
    header = ["adapter.lora_impl", "checkpointing", "operations, forward", "backward", "kept for backward, GiB"]
    print(table(header, rows))
    if options.time:
        time_blocks(options.rounds)


if __name__ == "__main__":
    main()
