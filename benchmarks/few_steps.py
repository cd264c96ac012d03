"""What few steps keep of identity and prompt, and what they save, on the toon base.

    python benchmarks/few_steps.py dpmpp     # DPM-Solver++ 2M at 20 steps against DDIM at 50
    python benchmarks/few_steps.py lcm       # 4 steps with the LoRA of experiment=toon_lcm against 30 of DDIM
    python benchmarks/few_steps.py lcm --people 2 --images 1 --rounds 1     # whether it runs at all

Scores are those of `evaluate`, whose pictures are kept in `--output`: the same command goes on. Differences are paired
by person, with 95 % intervals. What is timed is processor time of one thread, in turns, so a busy machine does not
count; prompts and photos are encoded before.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from pm.config import from_mapping  # noqa: E402
from pm.evaluate.config import EvaluateConfig  # noqa: E402
from pm.evaluate.run import evaluate  # noqa: E402
from pm.evaluate.statistics import bootstrap, paired  # noqa: E402
from pm.methods.pipeline import load_pipeline  # noqa: E402
from pm.sample.request import request_of  # noqa: E402
from serving.compose import composed  # noqa: E402

# name → the sampler that is measured, and the one that it shall keep up with
PAIRS = {
    "dpmpp": (["sampler.schedule=dpmpp_2m", "sampler.steps=20"], ["sampler.schedule=ddim", "sampler.steps=50"]),
    "lcm": (["sampler=toon_lcm"], ["sampler.schedule=ddim", "sampler.steps=30"]),
}
METRICS = ("identity", "prompt")


def settings(overrides: list[str], options: argparse.Namespace, name: str) -> EvaluateConfig:
    """An evaluation with four photos of each person."""
    own = [f"adapters=[{options.adapter}]", f"metrics=[{','.join(METRICS)}]", "methods=[text_only]", "tracker=none"]
    own += [f"protocol.identities={options.people}", f"protocol.images={options.images}", "protocol.references=[4]"]
    own += [f"output={options.output / name}", f"workers.num={options.workers}", "blind_pairs=0"]
    loras = [f"sampler.loras=[{options.lora}]"] if options.lora and "sampler=toon_lcm" in overrides else []
    return from_mapping(EvaluateConfig, composed("evaluate", [*overrides, *own, *loras]))


def scores(config: EvaluateConfig) -> dict[str, dict[str, float]]:
    """Of the adapter's row: metric → person → value."""
    evaluate(config)
    report = json.loads((Path(config.output) / "report.json").read_text())
    (row,) = (row for row in report["rows"] if row["about"].get("method") == "photomaker")
    return {metric: row["metrics"][metric]["per_person"] for metric in METRICS}


def seconds(configs: list[EvaluateConfig], rounds: int) -> list[list[float]]:
    """Processor time of a batch of four pictures, in turns, of each."""
    torch.set_num_threads(1)
    found: list[list[float]] = [[] for _ in configs]
    pipelines = [load_pipeline(c.base, c.sampler, torch.device("cpu"), torch.float32) for c in configs]
    prompts = [request_of(c.sampler, "a woman wearing a red hoodie, smiling") for c in configs]
    rows = [pipeline.prepare([prompt] * 4) for pipeline, prompt in zip(pipelines, prompts, strict=True)]
    for round_ in range(rounds + 1):
        for each, pipeline, batch in zip(found, pipelines, rows, strict=True):
            sampler, start = pipeline.sampler(), time.process_time()
            for row in batch:
                sampler.add(row)
            while len(sampler):
                sampler.step()
            if round_ > 0:  # the first one warms up
                each.append(time.process_time() - start)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", choices=PAIRS)
    parser.add_argument("--adapter", default=str(ROOT / "assets/toon/adapter.safetensors"))
    parser.add_argument("--lora", help="of the few steps; default: the one that the sampler's file names")
    parser.add_argument("--people", type=int, default=64)
    parser.add_argument("--images", type=int, default=2, help="of each prompt")
    parser.add_argument("--rounds", type=int, default=5, help="of timing")
    parser.add_argument("--workers", type=int, default=2, help="of Ray; 0: this process alone")
    parser.add_argument("--output", type=Path, default=Path("runs/few_steps"))
    options = parser.parse_args()
    configs = [settings(overrides, options, f"{options.pair}-{i}") for i, overrides in enumerate(PAIRS[options.pair])]
    few, many = (scores(config) for config in configs)
    for metric in METRICS:
        ours, theirs = (bootstrap(list(each[metric].values())) for each in (few, many))
        print(f"{metric}: {ours} against {theirs}; difference {paired(few[metric], many[metric])}")
    fast, slow = (statistics.median(each) for each in seconds(configs, options.rounds))
    print(f"processor seconds of four pictures: {fast:.2f} against {slow:.2f}, {slow / fast:.1f} times as fast")


if __name__ == "__main__":
    main()
