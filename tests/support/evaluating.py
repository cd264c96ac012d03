"""Evaluations on a small base."""

from pm.config import from_mapping
from pm.evaluate.config import EvaluateConfig
from pm.toon.probe import Probe, save_probe
from serving.compose import composed
from support.sampling import write_adapter

METRICS = ("identity", "prompt", "diversity")


def config(base, folder, *overrides):
    """`conf/evaluate.yaml` on a small base."""
    small = {
        "adapters": f"[{folder / 'runs'}]", "base.path": base, "base.vision_path": base / "image_encoder",
        "metrics": f"[{', '.join(f'{{name: {n}, probe: {folder}/probe.safetensors}}' for n in METRICS)}]",
        "protocol.identities": 2, "protocol.prompts": 1, "protocol.images": 2,
        "protocol.references": "[1,2]", "sampler.steps": 2, "output": folder / "out", "device": "cpu",
        "dtype": "float32", "tracker": "none", "workers.num": 0,
    }  # fmt: skip
    return from_mapping(EvaluateConfig, composed("evaluate", [*(f"{k}={v}" for k, v in small.items()), *overrides]))


def folder_of(base, path, names=("one", "two")):
    """Adapters below `runs`, and a probe."""
    for i, name in enumerate(names):
        (path / "runs" / name).mkdir(parents=True)
        write_adapter(base, path / "runs" / name / "adapter.safetensors", seed=i)
    save_probe(Probe(), path / "probe.safetensors")
    return path
