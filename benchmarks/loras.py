"""What LoRAs beside the weights cost: a row with two of them and one without in one batch, against two plain rows.

    python benchmarks/loras.py [--base assets/toon] [--ranks 8 32] [--rounds 15]

Every round times all contestants in turn, by the CPU time of their one thread, so that other work on the machine hits
all alike; ratios of each round's times are formed within the round, and their median and quartiles come out. Besides:
the same with a U-Net whose weights are changed in place, which takes one call for each set of LoRAs.
"""

import argparse
import functools
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from pm.model.fused import LoraSwitch, Own, UnetChange
from pm.sample import BASE, PhotoMakerPipeline, Request
from pm.sample.sampler import Sampler

ASSETS = Path(__file__).resolve().parents[1] / "assets" / "toon"
LAYERS = {
    "attention": r"attn\d\.to_(q|k|v|out\.0)$",
    "transformers whole": r"(attn\d\.to_(q|k|v|out\.0)|ff\.net\.(0\.proj|2)|proj_(in|out))$",
}
STEPS = 4  # in one timing


def random_lora(unet: nn.Module, layers: str, rank: int, seed: int) -> dict[str, Tensor]:
    """A LoRA with random weights, in diffusers' names."""
    generator, state = torch.Generator().manual_seed(seed), {}
    for name, layer in unet.named_modules():
        if isinstance(layer, nn.Linear) and re.search(layers, name):
            state[f"unet.{name}.lora_A.weight"] = torch.randn(rank, layer.in_features, generator=generator) * 0.05
            state[f"unet.{name}.lora_B.weight"] = torch.randn(layer.out_features, rank, generator=generator) * 0.05
    return state


class Changed(UnetChange):
    """LoRAs added into copies of the weights: the alternative."""

    def __init__(self, pipeline: PhotoMakerPipeline, loras: dict[str, float]) -> None:
        self.parts = [(pipeline._loras.weights(name).unet, strength) for name, strength in loras.items()]

    @property
    def names(self) -> list[str]:
        return [f"{layer}.weight" for part, _ in self.parts for layer in part.layers]

    def weights(self, own: Own) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for part, strength in self.parts:
            for layer, change in part.layers.items():
                name = f"{layer}.weight"
                found[name] = found.get(name, own(name)) + strength * change.delta()
        return found


def contestants(pipeline: PhotoMakerPipeline) -> dict[str, Callable[[], None]]:
    """By name, what makes `STEPS` steps of two guided rows."""
    plain = Request("a woman in a red hoodie", seed=1, steps=STEPS, adapter=BASE)
    loras = {"one": 0.8, "two": 0.5}
    styled = Request("a woman in a red hoodie", seed=2, steps=STEPS, adapter=BASE, loras=loras)
    changed = Changed(pipeline, loras)
    rows = {"plain": pipeline.prepare([plain])[0], "styled": pipeline.prepare([styled])[0]}
    rows["changed"] = pipeline.prepare([Request("a woman in a red hoodie", seed=2, steps=STEPS, adapter=BASE)])[0]
    object.__setattr__(rows["changed"], "lora", changed)

    def sample(*names: str) -> None:
        base = pipeline.base
        sampler = Sampler(base.unet, base.predict, LoraSwitch(base.unet), isolate=False)
        for name in names:
            sampler.add(rows[name])
        while len(sampler):
            sampler.step()
        assert sampler.switch is not None
        sampler.switch.use(None)

    return {
        "two plain rows": functools.partial(sample, "plain", "plain"),
        "one with two LoRAs beside, one plain": functools.partial(sample, "styled", "plain"),
        "one with two LoRAs in the weights, one plain": functools.partial(sample, "changed", "plain"),
        "both with two LoRAs beside": functools.partial(sample, "styled", "styled"),
    }


def ratios(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Of each, its times over those of the first, round by round, after one warm-up."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 1):
        seconds = {}
        for name, run in runs.items():
            start = time.thread_time()
            run()
            seconds[name] = time.thread_time() - start
        first = next(iter(seconds.values()))
        for name in runs:
            if i:
                found[name].append(seconds[name] / first)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=str(ASSETS))
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = PhotoMakerPipeline.from_pretrained(args.base)
    print("| LoRAs on | rank | rows | ratio, median | quartiles |\n|---|---|---|---|---|")
    for layers, pattern in LAYERS.items():
        for rank in args.ranks:
            for seed, name in enumerate(("one", "two")):
                pipeline.load_lora(random_lora(pipeline.base.unet, pattern, rank, seed), name)
            for name, values in ratios(contestants(pipeline), args.rounds).items():
                low, middle, high = statistics.quantiles(values, n=4)
                print(f"| {layers} | {rank} | {name} | {middle:.3f} | {low:.3f} - {high:.3f} |", flush=True)


if __name__ == "__main__":
    main()
