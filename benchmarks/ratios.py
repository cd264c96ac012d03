"""Ours against diffusers at SDXL's real size, on the CPU or a GPU, in turns in one run, from the same weights.

    python -m benchmarks.ratios                                  # a quiet hour on two cores, 16 GiB of memory
    python -m benchmarks.ratios --size tenth                     # does it run? a minute

Sampling: a known identity by us, and `StableDiffusionXLPipeline` with the same LoRA fused into the same U-Net.
Training: our step with one worker, and diffusers' SDXL LoRA script as it is and with cached latents and texts, of the
same rank and micro-batch. In training each turn builds its contestant anew, so that only one is in memory. Rows are
kept in <output>/results.json; the same command adds turns that are missing.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.fullsize import here
from benchmarks.fullsize.folder import write_folder
from benchmarks.fullsize.models import PROMPT, build_training, id_embeds, load_pipeline, one_step, random_batch
from benchmarks.fullsize.models import write_adapter as adapter_file
from benchmarks.fullsize.results import Results, machine
from benchmarks.fullsize.shapes import SIZES, VOCABULARY, Size
from benchmarks.fullsize.their_step import TheirTraining
from pm.markdown import table

_STEPS = 2  # of a picture or of a training, in each turn, after one that is not counted


def main() -> None:
    args = parse()
    home, size = Path(args.output).absolute(), SIZES[args.size]
    base = write_folder(home / "base", size, device=args.device)
    results = Results(home, {"size": size.name, "side": args.side, "device": args.device} | machine())
    for turn in range(args.turns):
        for name, measure in {"sampling": sampling, "training": training}.items():
            row = f"{name}, turn {turn + 1}"
            if not results.done(row):
                results.put(row, measure(base, size, args))
                gc.collect()
    for name in ("sampling", "training"):
        print(f"\n{ratios([row for key, row in results.rows.items() if key.startswith(name)])}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="full", choices=SIZES)
    parser.add_argument("--output", default="runs/ratios")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--side", type=int, default=512, help="px of the pictures; training has the base's own")
    parser.add_argument("--turns", type=int, default=3)
    return parser.parse_args()


def ratios(rows: list[dict[str, Any]]) -> str:
    """Medians over the turns; ratios are of each turn, since between turns the machine changes."""
    names = [name for name in rows[0] if name.endswith("_s")]
    lines = []
    for name in names:
        turns = [row[name] / row[names[0]] for row in rows]
        spread = f"{statistics.median(turns):.2f} ({min(turns):.2f} to {max(turns):.2f})"
        lines.append([name.removesuffix("_s"), f"{statistics.median(row[name] for row in rows):.2f}", spread])
    return table(["", "s", f"× {names[0].removesuffix('_s')}"], lines)


def sampling(base: Path, size: Size, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a picture of `_STEPS` guided steps."""
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline

    from pm.sample.request import Request

    adapter = adapter_file(base, Path(args.output).absolute() / "adapter.safetensors")
    ours = load_pipeline(base, adapter, args.device, torch.bfloat16)
    parts: dict[str, Any] = {"vae": ours.base.vae, "unet": ours.base.unet}
    parts |= dict(zip(("text_encoder", "text_encoder_2"), ours.base.text_encoders, strict=True))
    parts |= dict(zip(("tokenizer", "tokenizer_2"), ours.base.tokenizers, strict=True))
    noise = DDIMScheduler.from_config(ours.base.scheduler_config)
    theirs = StableDiffusionXLPipeline(**parts, scheduler=noise, add_watermarker=False)
    theirs.set_progress_bar_config(disable=True)
    side = min(args.side, size.resolution)
    sides = {"width": side, "height": side}
    asked = Request(PROMPT, id_embeds=id_embeds(ours, 4), steps=_STEPS, guidance=5.0, merge_step=0, seed=0, **sides)
    ours.generate([asked])  # fuses the LoRA, which stays fused: both run on this very U-Net
    how = {"num_inference_steps": _STEPS, "guidance_scale": 5.0, **sides}
    calls = {"diffusers_s": lambda: theirs(PROMPT, **how), "ours_s": lambda: ours.generate([asked])}
    return {name: _seconds(call, args.device) for name, call in calls.items()} | {"side": side, "steps": _STEPS}


def training(base: Path, size: Size, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a step of one sample, checkpointed, in bfloat16."""
    rank = here.read("model/photomaker")["lora_rank"]
    found: dict[str, Any] = {"rank": rank}
    for name, cached in (("diffusers_s", False), ("diffusers_cached_s", True)):
        theirs = TheirTraining(base, args.device, rank, "bf16", cached=cached, checkpointing=True)
        batch = theirs.batch(1, size.resolution, sum(size.text), size.text[1], VOCABULARY)
        found[name] = _seconds(lambda theirs=theirs, batch=batch: theirs.step(batch), args.device)
        del theirs, batch
        gc.collect()
    engine, loaded = build_training(base, args.device, "ddp", 1, "bf16")
    ours = random_batch(loaded, 1)
    return found | {"ours_s": _seconds(lambda: one_step(engine, ours, args.device), args.device)}


def _seconds(call: Callable[[], Any], device: str) -> float:
    """Median, after one call that is not counted."""
    found = []
    for _ in range(_STEPS + 1):
        start = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return statistics.median(found[1:])


if __name__ == "__main__":
    main()
