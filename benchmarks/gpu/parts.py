"""The VAE, the switch between adapters, and where a step's time goes."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.fullsize.models import build_training, one_step, random_batch
from benchmarks.gpu.rig import Rig, Row
from benchmarks.gpu.sampling import requests


def rows(rig: Rig) -> dict[str, Row]:
    counts = (1, 4, 8) if rig.full else (1, 2)
    found: dict[str, Row] = {f"VAE decodes {n} together": lambda n=n: _decode(rig, n) for n in counts}
    found["VAE encodes 1"] = lambda: _encode(rig)
    found["adapter switch"] = lambda: _switch(rig)
    found["profile of a sampler's step"] = lambda: _profile_sampling(rig)
    return found | {"profile of a training step": lambda: _profile_training(rig)}


def _decode(rig: Rig, n: int) -> dict[str, Any]:
    from pm.model.base import decode_latents

    pipeline, row = rig.pipeline(), {}
    base = pipeline.base
    latents = torch.randn(n, base.latent_channels, base.latent_size, base.latent_size, device=rig.device)
    with rig.peak(row):
        row["together_s"] = rig.seconds(lambda: decode_latents(base, latents))
    row["one_by_one_s"] = rig.seconds(lambda: [decode_latents(base, each[None]) for each in latents])
    return row | {"speed_up": row["one_by_one_s"] / row["together_s"]}


def _encode(rig: Rig) -> dict[str, Any]:
    from pm.model.base import encode_images

    pipeline, row = rig.pipeline(), {}
    photo = torch.rand(1, 3, rig.size.resolution, rig.size.resolution) * 2 - 1
    with rig.peak(row):
        row["s"] = rig.seconds(lambda: encode_images(pipeline.base, photo))
    return row


def _switch(rig: Rig) -> dict[str, Any]:
    pipeline = rig.pipeline()
    pipeline.load_photomaker_adapter(rig.adapter(1), adapter_name="other")
    first, other = (pipeline.adapter(name).lora for name in ("photomaker", "other"))
    switch, row = pipeline._switch, {}
    switch.use(first)
    with rig.peak(row):
        rig.wait()
        start = time.perf_counter()
        switch.use(other)
        rig.wait()
        row["first_use_s"] = time.perf_counter() - start
    both = iter(range(10**9))
    row["again_s"] = rig.seconds(lambda: switch.use((first, other)[next(both) % 2]), 10)
    pipeline.unload_photomaker_adapter("other")
    switch.use(None)
    return row


def _profile_sampling(rig: Rig) -> dict[str, Any]:
    pipeline = rig.pipeline()
    sampler = pipeline.sampler()
    for row in pipeline.prepare(requests(pipeline, rig, 1, steps=max(rig.steps, 8))):
        sampler.add(row)
    return _profile(rig, sampler.step, rig.home / "sampling.json")


def _profile_training(rig: Rig) -> dict[str, Any]:
    rig.free()
    engine, base = build_training(rig.base, rig.device, "ddp", 1, "bf16")
    batch = random_batch(base, 1)
    return _profile(rig, lambda: one_step(engine, batch, rig.device), rig.home / "training.json")


def _profile(rig: Rig, step: Callable[[], Any], trace: Any) -> dict[str, Any]:
    """Synchronisations, kernels and the share of the time in which the device is busy, of one step."""
    from torch.profiler import ProfilerActivity, profile

    for _ in range(3):
        step()
    row: dict[str, Any] = {"wall_s": rig.seconds(step, 1, warm=False)}
    if rig.cuda:
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        places = [f"{w.filename.rpartition('/')[2]}:{w.lineno}" for w in said if "synchroniz" in str(w.message)]
        row |= {"synchronisations": len(places), "at": sorted(set(places))}
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if rig.cuda else [])
    with profile(activities=kinds) as seen:
        step()
        rig.wait()
    seen.export_chrome_trace(str(trace))
    if rig.cuda:
        kernels = [e for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA]
        busy = sum(e.device_time_total for e in kernels) / 1e6
        row |= {"kernels": len(kernels), "busy": busy / row["wall_s"]}
    key = "self_device_time_total" if rig.cuda else "self_cpu_time_total"
    longest = sorted(seen.key_averages(), key=lambda e: -getattr(e, key))[:8]
    return row | {"longest": {e.key[:60]: round(getattr(e, key) / 1e3, 2) for e in longest}}  # ms
