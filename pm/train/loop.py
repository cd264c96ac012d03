"""The training loop: batches in, checkpoints and metrics out. It knows neither Ray nor the model."""

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pm.errors import ConfigError
from pm.train.callbacks import Callback
from pm.train.checkpoint import Position, Restored, restore_rng, write_checkpoint, write_rng
from pm.train.config import TrainConfig
from pm.train.context import TrainContext
from pm.train.ema import MovingAverage
from pm.train.engine import Engine, world_size


def warmup(step: int, steps: int) -> float:
    """Factor on the learning rate of update `step` (from 0): linear over `steps` updates, then 1."""
    return min(1.0, (step + 1) / steps) if steps else 1.0


class Trainer:
    """Runs updates until `config.steps`.

    Args:
        config: how long and how often.
        context: rank, report.
        engine: wraps a module called as (batch) -> loss of each sample [B].
        loader: endless; yields this worker's micro-batches, has `state_dict` and `load_state_dict`.
        callbacks: see `Callback`; on every rank, most of them only on rank 0.
        validate: makes pictures after `step` updates and returns their path on rank 0. Collective.
    """

    def __init__(
        self,
        config: TrainConfig,
        context: TrainContext,
        engine: Engine,
        loader: Any,
        callbacks: Sequence[Callback] = (),
        validate: Callable[[int], Path | None] | None = None,
    ):
        self.config, self.context, self.engine, self.loader = config, context, engine, loader
        self.callbacks, self.validate = list(callbacks), validate
        self.ema = MovingAverage(engine, config.ema_decay) if config.ema_decay is not None else None
        self.step, self.seconds = 0, 0.0
        self._accumulation = config.accumulation(world_size())
        self._window = _Window(context.device)

    def restore(self, saved: Restored, folder: Path) -> None:
        """Go on from a checkpoint whose weights the engine was built with already."""
        self.step, self.seconds = saved.position.step, saved.position.seconds
        self.engine.load_moments(saved.engine)
        if self.ema is not None:
            self.ema.load(saved.ema or saved.engine.weights)
        self.loader.load_state_dict({"consumed": saved.position.consumed})
        restore_rng(folder, self.context.rank)

    def fit(self) -> dict[str, Any]:
        """Train to the end; returns the last metrics.

        Raises:
            ConfigError: the loss is no number any more.
        """
        self._tell("on_start", self.step, self.config.steps)
        metrics: dict[str, Any] = {"step": self.step}
        while self.step < self.config.steps:
            self._update()
            self._tell("on_step", self.step)
            save = self._due(self.config.checkpoint_every, at_end=True)
            if self._due(self.config.log_every, at_end=True) or save:
                metrics = self._metrics()
                self._tell("on_log", metrics)
            if save:
                self.save(metrics)
            if self.validate is not None and self._due(self.config.validate_every, at_end=True):
                path = self.validate(self.step)
                if path is not None:
                    self._tell("on_pictures", self.step, path)
        return metrics

    def save(self, metrics: dict[str, Any]) -> None:
        """Write and report a checkpoint."""
        state = self.engine.save()
        average = self.ema.gather() if self.ema is not None else {}
        position = Position(
            step=self.step,
            updates=state.updates,
            consumed=self.loader.state_dict()["consumed"],
            workers=world_size(),
            seconds=self.seconds,
        )
        with tempfile.TemporaryDirectory(prefix="pm-checkpoint-") as temporary:
            folder = Path(temporary)
            write_rng(folder, self.context.rank)
            if self.context.rank == 0:
                write_checkpoint(folder, position, state, average)
            self.context.report(self.step, metrics, folder)

    def _update(self) -> None:
        start = time.perf_counter()
        self.engine.set_lr(warmup(self.step, self.config.warmup_steps))
        for _ in range(self._accumulation):
            batch = next(self.loader).to(self.context.device)
            losses = self.engine.forward(batch)
            self.engine.backward(losses.mean())
            self._window.add(losses.detach())
        norm = self.engine.step()
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.step)
        duration = time.perf_counter() - start
        self.seconds += duration
        self._window.close(norm, duration)

    def _metrics(self) -> dict[str, Any]:
        loss, norm, samples_per_s, waited = self._window.read()
        self.seconds += waited
        if not math.isfinite(loss):
            raise ConfigError(
                f"loss is {loss} at step {self.step}; lower train.lr_lora and train.lr_id_encoder or use "
                "train.precision=fp32, then run again: it goes on from the last checkpoint"
            )
        factor = warmup(self.step - 1, self.config.warmup_steps)
        return {
            "step": self.step,
            "loss": loss,
            "grad_norm": norm,
            "lr_lora": self.config.lr_lora * factor,
            "lr_id_encoder": self.config.lr_id_encoder * factor,
            "samples_per_s": samples_per_s,
            "consumed": self.loader.state_dict()["consumed"],
            "seconds": round(self.seconds, 3),
        }

    def _due(self, every: int | None, *, at_end: bool) -> bool:
        last = at_end and self.step == self.config.steps
        return last or (every is not None and self.step % every == 0)

    def _tell(self, event: str, *args: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(*args)


class _Window:
    """Sums since the last log, on the device: reading them is the only point where workers and devices wait."""

    def __init__(self, device: torch.device):
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)  # loss, samples
        self._norm: Tensor | float = 0.0
        self._seconds = 0.0

    def add(self, losses: Tensor) -> None:
        self._sums[0] += losses.double().sum()
        self._sums[1] += losses.numel()

    def close(self, norm: Tensor | float, seconds: float) -> None:
        """Note one update's gradient norm and duration."""
        self._norm = norm
        self._seconds += seconds

    def read(self) -> tuple[float, float, float, float]:
        """Mean loss over all workers, the last gradient norm, samples a second of all workers, seconds waited here.

        Starts the next window. A GPU catches up here, so this waiting is part of the updates' time.
        """
        start = time.perf_counter()
        if world_size() > 1:
            dist.all_reduce(self._sums)
        total, samples = self._sums.tolist()
        norm = float(self._norm)
        waited = time.perf_counter() - start
        self._seconds += waited
        result = total / max(samples, 1), norm, samples / max(self._seconds, 1e-9), waited
        self._sums.zero_()
        self._seconds = 0.0
        return result
