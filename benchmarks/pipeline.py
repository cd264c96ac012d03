"""What identity costs: our pipeline, with and without an adapter, against diffusers' StableDiffusionXLPipeline.

    python benchmarks/pipeline.py [--base assets/toon] [--adapter assets/toon/adapter.safetensors] [--rounds 5]

Every round times all of them in turn, so that a machine that gets slower hits all alike; a table of ratios of the
medians comes out. Images are of the same size, steps, guidance and number; the noise is the same.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from pm.sample import BASE, PhotoMakerPipeline, Request
from pm.sample.devices import pick_device, pick_dtype

ASSETS = Path(__file__).resolve().parents[1] / "assets" / "toon"
PLAIN, PERSON = "a woman in a red hoodie", "a woman img in a red hoodie"


def contestants(args: argparse.Namespace, images: int) -> dict[str, Callable[[], object]]:
    """By name, what makes `images` images."""
    device = pick_device(args.device)
    dtype = pick_dtype("auto", device)
    theirs = StableDiffusionXLPipeline.from_pretrained(args.base, torch_dtype=dtype, add_watermarker=False).to(device)
    theirs.set_progress_bar_config(disable=True)
    ours = PhotoMakerPipeline.from_pretrained(args.base, args.adapter, device=device, dtype=dtype)
    side = ours.base.resolution
    photos = [Image.effect_noise((side, side), 60 + i).convert("RGB") for i in range(args.references)]
    known = ours.embed(ours.references(photos, preprocess="none"))
    common = {"steps": args.steps, "guidance": 5.0}

    def plain() -> object:
        noise = [torch.Generator().manual_seed(i) for i in range(images)]
        return theirs(PLAIN, num_images_per_prompt=images, num_inference_steps=args.steps, generator=noise)

    def portraits(**fields: object) -> object:
        return ours.generate([Request(seed=i, **common, **fields) for i in range(images)], batch_size=images)

    return {
        "diffusers, plain text": plain,
        "ours, plain text": lambda: portraits(prompt=PLAIN, adapter=BASE),
        f"ours, {args.references} photos": lambda: portraits(prompt=PERSON, id_images=photos, merge_step=0),
        f"ours, {args.references} photos known already": lambda: portraits(
            prompt=PERSON, id_embeds=known, merge_step=0
        ),
    }


def measure(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, after one warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if i > 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default=str(ASSETS))
    parser.add_argument("--adapter", default=str(ASSETS / "adapter.safetensors"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--references", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, nargs="+", default=[1, 4])
    args = parser.parse_args()
    print("| images | pipeline | time / diffusers' |\n|---|---|---|")
    for images in args.images:
        medians = measure(contestants(args, images), args.rounds)
        unit = next(iter(medians.values()))
        for name, value in medians.items():
            print(f"| {images} | {name} | {value / unit:.2f} |", flush=True)


if __name__ == "__main__":
    main()
