"""What the platform costs: samples/s of Ray Train with each engine against a bare PyTorch loop over the same batches.

    python benchmarks/train_overhead.py --data data/toon

Every row is measured in one go on the same machine, several times in turns; ratios are of medians, with the range seen.
The bare loop has its batches in memory, one process and all cores: no Ray, no loader, no metrics, no checkpoints. The
bare loop that loads reads and decodes each photo when it comes, as the platform's workers do: what is left is the rest.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pm.config import from_mapping  # noqa: E402
from pm.train.config import ENGINES, RunConfig  # noqa: E402

MEMORY, LOADING = "bare loop", "bare loop that loads"


def main() -> None:
    args = parse()
    from pm.ray_env import ray_init

    ray_init(address="local", num_cpus=args.cpus)
    jobs: list[tuple[str, str | None, int]] = [(MEMORY, None, 1), (LOADING, None, 1)]
    jobs += [(f"{engine}, {workers} workers", engine, workers) for engine in args.engines for workers in args.workers]
    found: dict[str, list[float]] = {name: [] for name, _, _ in jobs}
    for turn in range(args.turns):
        for name, engine, workers in jobs:
            speed = bare(args, name == LOADING) if engine is None else platform(args, engine, workers)
            found[name].append(speed)
            print(f"turn {turn + 1}: {name}: {speed:.2f} samples/s", file=sys.stderr, flush=True)
    memory, loading = (statistics.median(found[name]) for name in (MEMORY, LOADING))
    print(f"batch {args.batch}, {args.steps} steps, {args.turns} turns, median samples/s, {args.cpus} CPU cores\n")
    print("| what | samples/s | of the bare loop | range | of one that loads |\n|---|---|---|---|---|")
    for name, speeds in found.items():
        low, middle, high = min(speeds), statistics.median(speeds), max(speeds)
        spread = f"{low / memory:.2f}-{high / memory:.2f}"
        print(f"| {name} | {middle:.1f} | {middle / memory:.2f} | {spread} | {middle / loading:.2f} |")
    encoding(args)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a folder that pipelines/preprocess.py wrote")
    parser.add_argument("--base", default=str(ROOT / "assets/toon"), help="the base the dataset was made for")
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--engines", nargs="+", default=["ddp", "zero1", "zero2", "zero3"], choices=list(ENGINES))
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    return parser.parse_args()


def settings(args: argparse.Namespace, engine: str, workers: int) -> RunConfig:
    """conf/train.yaml for the toon base, without pictures and with one log line every four steps."""
    read = lambda name: yaml.safe_load((ROOT / f"conf/{name}.yaml").read_text())  # noqa: E731
    values = read("train")
    result = {key: values[key] for key in ("seed", "init", "profile", "train", "validation", "workers")}
    result["train"] |= {"steps": args.steps, "batch_size": args.batch, "log_every": 4}
    result["train"] |= {"validate_every": None, "checkpoint_every": args.steps // 2}
    result["validation"]["sampler"] = read("sampler/toon")
    result["workers"] |= {"num": workers, "use_gpu": False, "cpus_per_worker": args.cpus // workers}
    toon = Path(args.base).absolute()
    return from_mapping(
        RunConfig,
        result
        | {"name": "overhead", "dataset": str(Path(args.data).absolute()), "wandb": read("tracker/none")}
        | {"base": {"path": str(toon), "vision_path": str(toon / "image_encoder")}}
        | {
            "adapter": read("model/toon") | {"compose": "stacked", "merge": "insert"},
            "engine": read(f"engine/{engine}"),
        },
    )


def platform(args: argparse.Namespace, engine: str, workers: int) -> float:
    """Samples/s of a run with a checkpoint, without the first third, when Ray itself still starts processes."""
    from pm.train.callbacks import read_metrics
    from pm.train.launch import launch

    folder = Path(tempfile.mkdtemp(prefix="overhead-"))
    try:
        launch(settings(args, engine, workers), folder, {})
        lines = read_metrics(folder / "metrics.jsonl")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    first, last = next(line for line in lines if line["step"] >= args.steps // 3), lines[-1]
    return (last["consumed"] - first["consumed"]) / (last["time"] - first["time"])


def parts(config: RunConfig):
    """Model, step and batches of a run, built by hand."""
    import torch

    from pm.data.dataset import IdentityDataset
    from pm.data.loader import Loader
    from pm.model.base import load_base
    from pm.model.photomaker import PhotoMaker
    from pm.train.diffusion import noise_schedule
    from pm.train.step import Precision, TrainStep, train_in_float32
    from pm.train.worker import samples_config

    base = load_base(
        config.base.path, ("unet", "text", "vae"), vision_path=config.base.vision_path, dtype=torch.float32
    )
    torch.manual_seed(config.seed)
    model = PhotoMaker(base, config.adapter)
    train_in_float32(model)
    model.train().unet.to(memory_format=torch.channels_last)
    step = TrainStep(model, noise_schedule(base.scheduler_config), base.scaling_factor, Precision(torch.float32))
    dataset = IdentityDataset(config.dataset, samples_config(config.train), base_fingerprint=base.fingerprint)
    loader = Loader(dataset, config.train.batch_size, seed=config.seed, prefetch=0)
    return base, model, step, loader


def bare(args: argparse.Namespace, loading: bool) -> float:
    """Samples/s of the plainest loop, without the first third."""
    import torch

    torch.set_num_threads(args.cpus)
    config = settings(args, "ddp", 1)
    _, model, step, loader = parts(config)
    batches = loader if loading else iter([next(loader) for _ in range(args.steps)])
    groups = zip(model.parameter_groups().values(), (config.train.lr_lora, config.train.lr_id_encoder), strict=True)
    optimizer = torch.optim.AdamW([{"params": p, "lr": lr} for p, lr in groups], weight_decay=0.01, fused=True)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    start = 0.0
    for i in range(args.steps):
        if i == args.steps // 3:
            start = time.perf_counter()
        step(next(batches)).mean().backward()
        torch.nn.utils.clip_grad_norm_(trained, config.train.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
    return args.batch * (args.steps - args.steps // 3) / (time.perf_counter() - start)


def encoding(args: argparse.Namespace) -> None:
    """Forward and backward with features from the dataset, and with the frozen encoders run for each batch."""
    import torch

    from pm.model.base import encode_images, encode_text
    from pm.model.prompt import tokenize

    torch.set_num_threads(args.cpus)
    base, _, step, loader = parts(settings(args, "ddp", 1))
    batches = [next(loader) for _ in range(8)]
    times: dict[str, list[float]] = {"from the dataset": [], "encoded for each batch": []}
    for batch in batches:
        for name in times:
            start = time.perf_counter()
            if name == "encoded for each batch":
                with torch.no_grad():
                    encode_images(base, torch.rand(len(batch), 3, base.resolution, base.resolution) * 2 - 1)
                    encode_text(base, tokenize(base.tokenizers, batch.captions))
            step(batch).mean().backward()
            times[name].append(time.perf_counter() - start)
    ready = statistics.median(times["from the dataset"][1:])
    print("\n| latents and text features | samples/s | ratio |\n|---|---|---|")
    for name, seconds in times.items():
        middle = statistics.median(seconds[1:])
        print(f"| {name} | {args.batch / middle:.2f} | {ready / middle:.2f} |")


if __name__ == "__main__":
    main()
