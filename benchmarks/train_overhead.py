"""What the platform costs: samples/s of Ray Train with each engine against a bare PyTorch loop over the same batches.

    python benchmarks/train_overhead.py --data data/toon

Each row's run and the bare loop take turns, the other one frozen meanwhile, Ray's processes too: so a ratio holds
although the machine's speed may change from minute to minute. The turns are long, because a process that wakes has
catching up to do. The bare loop has its batches in memory, one process and all cores: no Ray, no loader, no metrics, no
checkpoints. Of a dataset of 30 people all photos are soon in memory; of one of 1,000 each is read for the first time.
"""

import argparse
import itertools
import json
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from turns import Host, Player  # noqa: E402

from pm.config import from_mapping  # noqa: E402
from pm.train.run.config import RunConfig  # noqa: E402

_LOG_EVERY, _CHECKPOINT_EVERY = 2, 16
ENGINES = ("ddp", "zero1", "zero2", "zero3", "zero3_offload")  # files of conf/engine/
_ENDLESS, _WARM_UP = 1_000_000, 10  # steps
_IN_MEMORY = 24  # batches of the bare loop


def main() -> None:
    args = parse()
    if args.part is not None:
        part(args)
        return
    signal.signal(signal.SIGTERM, leave)
    folder = Path(tempfile.mkdtemp(prefix="overhead-"))
    bare = player(args, folder, "bare")
    try:
        bare.warm_up(_WARM_UP * args.batch)
        print(f"batch {args.batch}, {args.turns} turns of {args.seconds:g} s, {args.cpus} CPU cores\n")
        print("| what | samples/s | bare loop | ratio | waiting for data | CPU steal |")
        print("|---|---|---|---|---|---|")
        for engine in args.engines:
            for workers in args.workers:
                print(f"| {engine}, {workers} workers | {row(args, folder, bare, engine, workers)} |", flush=True)
    finally:
        bare.end()
        shutil.rmtree(folder, ignore_errors=True)
    encoding(args)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a folder that pipelines/preprocess.py wrote")
    parser.add_argument("--base", default=str(ROOT / "assets/toon"), help="the base the dataset was made for")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of a turn")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--engines", nargs="+", default=["ddp", "zero1", "zero2", "zero3"], choices=ENGINES)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)  # of this benchmark, in a process of its own
    return parser.parse_args()


def leave(*_: object) -> None:
    """End by way of every `finally`: what is frozen would stay so. Once: `timeout` sends its signal twice."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def row(args: argparse.Namespace, folder: Path, bare: Player, engine: str, workers: int) -> str:
    """Samples/s of a run, and of the bare loop between its turns."""
    name = f"{engine}-{workers}"
    ours = player(args, folder, name)
    try:
        ours.warm_up(_WARM_UP * args.batch)  # meanwhile Ray still starts processes of its own
        ours.new_game()
        bare.new_game()
        host = Host()
        for _ in range(args.turns):
            ours.play(args.seconds)
            bare.play(args.seconds)
        speed, reference, taken = ours.speed(), bare.speed(), host.took()
    finally:
        ours.end()
    waiting = statistics.median(line["data_s"] for line in notes(folder / name)[_WARM_UP // _LOG_EVERY :])
    share = waiting * speed / args.batch
    return f"{speed:.1f} | {reference:.1f} | {speed / reference:.2f} | {share:.0%} | {taken:.0%}"


def player(args: argparse.Namespace, folder: Path, name: str) -> Player:
    """A part of the benchmark in a process of its own."""
    home = folder / name
    home.mkdir()
    given = {"data": args.data, "base": args.base, "batch": args.batch, "cpus": args.cpus}
    command = [sys.executable, __file__, *(f"--{key}={value}" for key, value in given.items())]
    timeline = lambda: [(line["time"], line["consumed"]) for line in notes(home)]  # noqa: E731
    return Player([*command, "--part", name, str(home)], home / "log", timeline)


def notes(home: Path) -> list[dict[str, float]]:
    """What a part has noted so far: `time` in unix seconds, `consumed` in samples, and more."""
    found = home / "metrics.jsonl"
    lines = found.read_text().splitlines(keepends=True) if found.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def part(args: argparse.Namespace) -> None:
    """What a player runs, until it is killed."""
    name, home = args.part
    if name == "bare":
        bare_loop(args, Path(home))
        return
    from pm.ray_env import ray_init
    from pm.train.run.launch import launch

    engine, workers = name.rsplit("-", 1)
    ray_init(address="local", num_cpus=args.cpus)
    launch(settings(args, engine, int(workers)), Path(home), {})


def settings(args: argparse.Namespace, engine: str, workers: int) -> RunConfig:
    """conf/train.yaml for the toon base, without pictures."""
    read = lambda name: yaml.safe_load((ROOT / f"conf/{name}.yaml").read_text())  # noqa: E731
    values = read("train")
    result = {key: values[key] for key in ("seed", "init", "profile", "train", "validation", "workers")}
    result["train"]["loss_weights"] = read("loss_weights/uniform")
    result["train"] |= {"steps": _ENDLESS, "batch_size": args.batch, "log_every": _LOG_EVERY}
    result["train"] |= {"validate_every": None, "checkpoint_every": _CHECKPOINT_EVERY}
    result["validation"]["sampler"] = read("sampler/toon")
    result["workers"] |= {"num": workers, "use_gpu": False, "cpus_per_worker": args.cpus // workers}
    toon = Path(args.base).absolute()
    return from_mapping(
        RunConfig,
        result
        | {"name": "overhead", "dataset": str(Path(args.data).absolute()), "tracker": read("tracker/none")}
        | {"base": {"path": str(toon), "vision_path": str(toon / "image_encoder")}}
        | {
            "adapter": read("model/toon") | {"compose": "stacked", "merge": "insert"},
            "engine": read(f"engine/{engine}"),
        },
    )


def parts(config: RunConfig):
    """Model, step and batches of a run, built by hand."""
    import torch

    from pm.data.dataset.reader import IdentityDataset
    from pm.data.loading.loader import Loader
    from pm.model.base import load_base
    from pm.model.photomaker import PhotoMaker
    from pm.train.diffusion import noise_schedule
    from pm.train.run.workers import samples_config
    from pm.train.step import Precision, TrainStep, train_in_float32

    base = load_base(
        config.base.path, ("unet", "text", "vae"), vision_path=config.base.vision_path, dtype=torch.float32
    )
    torch.manual_seed(config.seed)
    model = PhotoMaker(base, config.adapter)
    train_in_float32(model)
    model.train().unet.to(memory_format=torch.channels_last)
    step = TrainStep(
        model,
        noise_schedule(base.scheduler_config),
        base.scaling_factor,
        Precision(torch.float32),
        config.train.loss_weights,
    )
    dataset = IdentityDataset(config.dataset, samples_config(config.train), base_fingerprint=base.fingerprint)
    loader = Loader(dataset, config.train.batch_size, seed=config.seed, prefetch=0)
    return base, model, step, loader


def bare_loop(args: argparse.Namespace, home: Path) -> None:
    """The plainest loop; it notes each step."""
    import torch

    torch.set_num_threads(args.cpus)
    config = settings(args, "ddp", 1)
    _, model, step, loader = parts(config)
    batches = itertools.cycle([next(loader) for _ in range(_IN_MEMORY)])
    groups = zip(model.parameter_groups().values(), (config.train.lr_lora, config.train.lr_id_encoder), strict=True)
    optimizer = torch.optim.AdamW([{"params": p, "lr": lr} for p, lr in groups], weight_decay=0.01, fused=True)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    with (home / "metrics.jsonl").open("w", buffering=1) as stream:
        for i, batch in enumerate(batches):
            step(batch).mean().backward()
            torch.nn.utils.clip_grad_norm_(trained, config.train.grad_clip)
            optimizer.step()
            optimizer.zero_grad()
            stream.write(json.dumps({"time": time.time(), "consumed": (i + 1) * args.batch}) + "\n")


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
