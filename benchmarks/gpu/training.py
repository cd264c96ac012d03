"""Training: over the micro-batch, checkpointing, the LoRA's layers and compiling; diffusers' step; ZeRO on one rank."""

import itertools
from pathlib import Path
from typing import Any

from benchmarks.fullsize import here
from benchmarks.fullsize.budget import known
from benchmarks.fullsize.models import NotAvailable, build_training, one_step, random_batch
from benchmarks.fullsize.shapes import VOCABULARY
from benchmarks.gpu.rig import Rig, Row

# Dense bf16 peaks by the makers' data sheets, TFLOP/s; the name is a part of the device's.
PEAKS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "4090": 165.0, "A10": 125.0}


def rows(rig: Rig) -> dict[str, Row]:
    micros = (1, 2, 4, 6) if rig.full else (1,)
    found: dict[str, Row] = {}
    for micro, checkpointing, lora, how in itertools.product(micros, (True, False), ("fused", "peft"), rig.compiled):
        if how == "full" and (micro != 1 or lora == "peft"):
            continue  # minutes of compiling for each shape; one tells
        name = f"micro {micro}, {'' if checkpointing else 'no '}checkpointing, {lora}, compile={how}"
        over = {"gradient_checkpointing": checkpointing, "lora_impl": lora, "compile": how}
        found[name] = lambda micro=micro, over=over: _ours(rig, "ddp", micro, over)
    plain: dict[str, Any] = {"gradient_checkpointing": True}
    found["as this version has it, micro 1"] = lambda: _ours(rig, "ddp", 1, plain)
    for micro in micros[:2]:
        for cached in (False, True):
            label = f"diffusers' script, micro {micro}{', cached latents' if cached else ''}"
            found[label] = lambda micro=micro, cached=cached: _theirs(rig, micro, cached)
    found |= {f"{stage}, one rank": lambda stage=stage: _zero(rig, stage) for stage in ("zero2", "zero3")}
    return found | {"checkpoint and restore": lambda: _checkpoint(rig)}


def _ours(rig: Rig, engine_name: str, micro: int, over: dict[str, Any]) -> dict[str, Any]:
    rig.free()
    row: dict[str, Any] = {"micro": micro}
    with rig.peak(row):
        engine, base = build_training(rig.base, rig.device, engine_name, micro, "bf16", **over)
        batch = random_batch(base, micro)
        row["step_s"] = rig.seconds(lambda: one_step(engine, batch, rig.device))
    row["samples_per_s"] = micro / row["step_s"]
    counts = known(rig.size).training
    done = (counts.forward + counts.backward) * row["samples_per_s"] / 1e12  # what is computed twice counts once
    row["model_tflop_per_s"] = done
    if rig.cuda:
        import torch

        peak = next((value for name, value in PEAKS.items() if name in torch.cuda.get_device_name()), None)
        row |= {"of_peak": done / peak} if peak else {}
    return row


def _theirs(rig: Rig, micro: int, cached: bool) -> dict[str, Any]:
    try:
        from benchmarks.fullsize.their_step import TheirTraining
    except ImportError as error:
        raise NotAvailable(str(error)) from error
    rig.free()
    row: dict[str, Any] = {"micro": micro}
    with rig.peak(row):
        rank = here.read("model/photomaker")["lora_rank"]
        training = TheirTraining(rig.base, rig.device, rank, "bf16", cached=cached, checkpointing=True)
        size = rig.size
        batch = training.batch(micro, size.resolution, sum(size.text), size.text[1], VOCABULARY)
        row["step_s"] = rig.seconds(lambda: training.step(batch))
    return row | {"samples_per_s": micro / row["step_s"]}


def _zero(rig: Rig, stage: str) -> dict[str, Any]:
    try:
        import deepspeed  # noqa: F401
    except ImportError as error:
        raise NotAvailable(f"deepspeed: {error}") from error
    here.join_group(rig.device)
    return _ours(rig, stage, 1, {})


def _checkpoint(rig: Rig) -> dict[str, Any]:
    """Gather, write, read back and load the state of an engine, as a run does."""
    import time

    from pm.files import replace_folder
    from pm.train.checkpoint import Position, read_checkpoint, write_checkpoint
    from pm.train.engine.base import load_weights

    rig.free()
    engine, base = build_training(rig.base, rig.device, "ddp", 1, "bf16")
    one_step(engine, random_batch(base, 1), rig.device)
    folder: Path = rig.home / "checkpoint"
    clock = [time.perf_counter()]
    state = engine.state_dict()
    clock.append(time.perf_counter())
    position = Position(1, state.updates, 1, 1, 0.0, {}, {})
    with replace_folder(folder) as place:
        write_checkpoint(place, position, state, {})
    clock.append(time.perf_counter())
    saved = read_checkpoint(folder)
    load_weights(engine.module, saved.engine.weights)
    engine.load_moments(saved.engine)
    rig.wait()
    clock.append(time.perf_counter())
    gather, write, restore = (b - a for a, b in itertools.pairwise(clock))
    size = sum(file.stat().st_size for file in folder.rglob("*")) / 2**30
    return {"gather_s": gather, "write_s": write, "restore_s": restore, "gib": size}
