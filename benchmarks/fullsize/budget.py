"""What each stage should need of memory: counted on torch's meta device, by stage and phase, for any width.

The prediction that `python -m benchmarks.rehearsal` holds its measurements against, and that docs/scaling.md explains.
One process on the CPU, where there is no second memory: what a GPU would hold and what the host holds add up.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.fullsize.here import read
from benchmarks.fullsize.shapes import SIZES, Size

GIB = 2**30
FILE = Path(__file__).with_name("numbers.json")  # of `count`, which takes a minute or two

LIBRARIES = 0.8  # GiB of a process with torch, diffusers, transformers and this project; with DeepSpeed 0.1 more
ENGINES = {"ddp": 0, "zero1": 1, "zero2": 2, "zero3": 3, "zero3_offload": 3}
EXPORTS = ("native", "published", "diffusers", "comfyui", "hub")


@dataclass(frozen=True)
class Numbers:
    """Counted once for a size."""

    training: Any  # `sdxl_budget.Counts`
    weights: Mapping[str, int]  # numbers of each part of a portrait
    attention: int  # bytes in bf16 of an adapter's own copy of the U-Net's attention matrices
    alive: Mapping[str, int]  # bytes of activations in bf16, see `sdxl_memory.activations`


def count(size: Size, references: int = 4) -> Numbers:
    """Build everything without weights, and count."""
    from benchmarks.sdxl_budget import measure
    from benchmarks.sdxl_memory import CHOICES, activations, adapter, parts

    bf16 = next(choice for choice in CHOICES if choice.name == "bfloat16")
    settings, found = read("model/photomaker"), parts(size)
    targets = tuple(settings["lora_targets"])
    return Numbers(
        training=measure(settings["lora_rank"], targets, settings["train_layers"], references, size),
        weights={name: sum(p.numel() for p in module.parameters()) for name, module in found.items()},
        attention=adapter(found["U-Net"], bf16),
        alive=activations(found, size),
    )


def known(size: Size) -> Numbers:
    """What `python -m benchmarks.fullsize.budget` counted."""
    from benchmarks.sdxl_budget import Counts

    found = json.loads(FILE.read_text())[size.name]
    return Numbers(**(found | {"training": Counts(**found["training"])}))


def phases(numbers: Numbers, stage: str, *, ema: bool = False) -> dict[str, float]:
    """GiB that a stage holds in each of its phases, what Python and the libraries take included.

    Args:
        numbers: of `count`.
        stage: "folder", "preprocess", "train/<engine>", "resume", "export/<format>", "generate", "serve" or "evaluate".
        ema: train with a moving average.

    Returns:
        name of the phase → GiB; the stage's peak is the largest.
    """
    kind, _, which = stage.partition("/")
    found = {
        "folder": _folder,
        "preprocess": _preprocess,
        "train": lambda n: _train(n, ENGINES[which], ema, resumed=False),
        "resume": lambda n: _train(n, ENGINES["ddp"], ema, resumed=True),
        "export": _export,
        "generate": _portraits,
        "serve": _portraits,
        "evaluate": _portraits,
    }[kind](numbers)
    return {name: size / GIB + LIBRARIES for name, size in found.items()}


def predict(numbers: Numbers, stage: str, *, ema: bool = False) -> float:
    """GiB at most; see `phases`."""
    return max(phases(numbers, stage, ema=ema).values())


def disk(numbers: Numbers, stage: str) -> float:
    """GiB that a stage writes."""
    everything, trained = sum(numbers.weights.values()), numbers.training.trained
    file = 4 * (numbers.weights["id encoder"] + numbers.training.lora)
    kind = stage.partition("/")[0]
    sizes = {
        "folder": 2 * everything,
        "train": 2 * 12 * trained + file,
        "resume": 2 * 12 * trained + file,
        "export": file,
    }
    return sizes.get(kind, 0) / GIB


def _folder(n: Numbers) -> dict[str, float]:
    return {"the largest part in bf16": 2 * max(n.weights.values())}


def _preprocess(n: Numbers) -> dict[str, float]:
    return {"VAE, text encoders, a photo": 2 * (n.weights["VAE"] + n.weights["text encoders"]) + n.alive["encode"]}


def _train(n: Numbers, stage: int, ema: bool, resumed: bool) -> dict[str, float]:
    from benchmarks.sdxl_budget import memory

    c = n.training
    held = memory(c, stage, 1, 1, checkpointing=True)
    step = sum(held.values())
    between = step - held["activations"] - held["their bf16 copies (autocast)"]
    average, saved = 4 * c.trained * ema, 12 * c.trained * resumed  # a resumed run keeps what it read
    tower = 4 * (n.weights["id encoder"])
    gathered = 12 * c.trained + average  # weights and two moments, on the host, while a checkpoint is written
    return {
        "loading: the tower is there twice": 2 * c.unet + 2 * tower + saved,
        "a step": step + average + saved,
        "a checkpoint": between + average + saved + gathered,
        "export: a copy of the adapter": between + average + saved + 4 * (n.weights["id encoder"] + c.lora),
    }


def _export(n: Numbers) -> dict[str, float]:
    c, adapter_file = n.training, 4 * (n.weights["id encoder"] + n.training.lora)
    base = 4 * c.unet  # in fp32, although only its names are needed
    return {
        "base and checkpoint": base + 12 * c.trained + adapter_file,
        "writing": base + 12 * c.trained + 2 * adapter_file,
    }


def _portraits(n: Numbers) -> dict[str, float]:
    models = 2 * sum(n.weights.values()) + 2 * n.attention  # the base's own matrices and the adapter's, copied into it
    file = 4 * (n.weights["id encoder"] + n.training.lora)
    return {
        "reading the adapter": 2 * sum(n.weights.values()) + file,
        "U-Net step": models + n.alive["step"],
        "VAE decode": models + n.alive["decode"],
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: asdict(count(size)) for name, size in SIZES.items()}, indent=1) + "\n")
