"""The training loop: batches in, checkpoints and metrics out. It knows neither Ray nor the model."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pm.errors import ConfigError
from pm.train.callbacks.base import Callback
from pm.train.callbacks.meter import Meter
from pm.train.checkpoint import Position, Restored, RngState, restore_rng, write_checkpoint, write_rng
from pm.train.config import TrainConfig
from pm.train.ema import MovingAverage
from pm.train.engine.base import Engine, world_size
from pm.train.run.context import TrainContext
from pm.train.run.signals import Signals


def warmup(step: int, steps: int) -> float:
    """Factor on the learning rate of update `step` (from 0): linear over `steps` updates, then 1."""
    return min(1.0, (step + 1) / steps) if steps else 1.0


class Trainer:
    """Runs updates until `config.steps`, or until it is asked to stop.

    Args:
        config: how long and how often.
        context: rank, report.
        engine: wraps a module called as (batch) -> loss of each sample [B].
        loader: endless; yields this worker's micro-batches, has `state_dict` and `load_state_dict`.
        callbacks: see `Callback`; on every rank, most of them only on rank 0.
        validate: makes pictures after `step` updates and returns their path on rank 0. Collective.
        provenance: base, dataset, project version and config, kept in checkpoints (`check_origin`).
        profiled: mark the parts of a step for a profiler.
    """

    def __init__(
        self,
        config: TrainConfig,
        context: TrainContext,
        engine: Engine,
        loader: Any,
        callbacks: Sequence[Callback] = (),
        validate: Callable[[int], Path | None] | None = None,
        provenance: Mapping[str, Any] | None = None,
        profiled: bool = False,
    ):
        self.config, self.context, self.engine, self.loader = config, context, engine, loader
        self.callbacks, self.validate = list(callbacks), validate
        self.ema = MovingAverage(engine, config.ema_decay) if config.ema_decay is not None else None
        self.step, self.seconds = 0, 0.0
        self.stopped = False  # asked to; the run is not finished
        self._provenance = dict(provenance or {})
        self._shares = config.shares(context.rank, world_size())
        self._meter = Meter(context.device, profiled)
        self._signals = Signals(context)
        self._saved_sums = [0.0, 0]  # loss and samples since the last checkpoint

    def restore(self, saved: Restored, folder: Path) -> None:
        """Resume from a checkpoint whose weights the engine was built with already."""
        self.step, self.seconds = saved.position.step, saved.position.seconds
        self.engine.load_moments(saved.engine)
        if self.ema is not None:
            self.ema.load(saved.ema or saved.engine.weights)
        self.loader.load_state_dict({"consumed": saved.position.consumed})
        restore_rng(folder, self.context.rank)

    def fit(self) -> dict[str, Any]:
        """Train to the end, or until asked to stop (`stopped`); returns the last metrics.

        Raises:
            ConfigError: loss or gradient is NaN or infinite, or `best_metric` is not measured.
        """
        self._tell("on_start", self.step, self.config.steps)
        metrics: dict[str, Any] = {"step": self.step}
        while self.step < self.config.steps and not self.stopped:
            self._signals.begin()
            self._update()
            stop, leaving = self._signals.end()
            self.stopped = stop and self.step < self.config.steps
            self._tell("on_step", self.step)
            save = self._due(self.config.checkpoint_every, at_end=True) or self.stopped or leaving
            if self._due(self.config.log_every, at_end=True) or save:
                metrics = self._metrics()
                self._tell("on_log", metrics)
            if save:
                self.save(metrics)
            if self.validate is not None and not self.stopped and self._due(self.config.validate_every, at_end=True):
                path = self.validate(self.step)
                if path is not None:
                    self._tell("on_pictures", self.step, path)
        return metrics

    def save(self, metrics: dict[str, Any]) -> None:
        """Gather a checkpoint and hand it over; it may be written while training continues."""
        with self._meter.part("checkpoint"):
            state = self.engine.state_dict()
            average = self.ema.gather() if self.ema is not None else {}
            position = Position(
                step=self.step,
                updates=state.updates,
                consumed=self.loader.state_dict()["consumed"],
                workers=world_size(),
                seconds=self.seconds,
                metrics=metrics,
                provenance=self._provenance,
            )
            generators = RngState.now()

            def write(folder: Path) -> None:
                write_rng(folder, self.context.rank, generators)
                if self.context.rank == 0:
                    write_checkpoint(folder, position, state, average)

            self.context.report(self.step, metrics, write)
        self._saved_sums = [0.0, 0]

    def _update(self) -> None:
        start = time.perf_counter()
        self.engine.set_lr(warmup(self.step, self.config.warmup_steps))
        for mine, factor in self._shares:
            with self._meter.part("data"):
                batch = next(self.loader).to(self.context.device)
            with self._meter.part("forward"):
                losses = self.engine.forward(batch)
            # A worker without a sample of its own in an uneven last micro-batch computes along, and counts nothing.
            loss = losses[:mine].mean() * factor if mine else losses.sum() * 0.0
            with self._meter.part("backward"):
                self.engine.backward(loss)
            self._meter.add(losses[:mine].detach())
        with self._meter.part("optimizer"):
            norm = self.engine.step()
            if self.ema is not None:
                self.ema.update(self.step + 1)
        self.step += 1
        duration = time.perf_counter() - start
        self.seconds += duration
        self._meter.close(norm, duration)

    def _metrics(self) -> dict[str, Any]:
        now = self._meter.read(self.ema.drift() if self.ema is not None else None)
        self.seconds += now.waited
        if not (math.isfinite(now.loss) and math.isfinite(now.norm)):
            what = f"loss is {now.loss}" if not math.isfinite(now.loss) else f"gradient norm is {now.norm}"
            raise ConfigError(
                f"{what} at step {self.step}; lower train.lr_lora and train.lr_id_encoder or use "
                "train.precision=fp32, then run again: it resumes from the last checkpoint"
            )
        self._saved_sums[0] += now.loss * now.samples
        self._saved_sums[1] += now.samples
        factor = warmup(self.step - 1, self.config.warmup_steps)
        metrics = {
            "step": self.step,
            "loss": now.loss,
            "checkpoint_loss": self._saved_sums[0] / max(1, self._saved_sums[1]),
            "grad_norm": now.norm,
            **({"ema_drift": now.drift} if now.drift is not None else {}),
            "lr_lora": self.config.lr_lora * factor,
            "lr_id_encoder": self.config.lr_id_encoder * factor,
            "samples_per_s": now.samples_per_s,
            **{f"{name}_s": round(value, 6) for name, value in now.parts.items()},
            "memory_gib": round(now.memory_gib, 3),
            "workers": world_size(),
            "consumed": self.loader.state_dict()["consumed"],
            "seconds": round(self.seconds, 3),
            "time": round(time.time(), 3),
        }
        if self.config.best_metric is not None and self.config.best_metric not in metrics:
            raise ConfigError(
                f"train.best_metric={self.config.best_metric} is not measured; use one of {', '.join(sorted(metrics))}"
            )
        return metrics

    def _due(self, every: int | None, *, at_end: bool) -> bool:
        last = at_end and self.step == self.config.steps
        return last or (every is not None and self.step % every == 0)

    def _tell(self, event: str, *args: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(*args)
