"""`profile=true`: a torch profiler trace of a few steps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from pm.files import write_text
from pm.train.callbacks.base import Callback

FOLDER = "profile"
_SKIP, _WARM, _STEPS = 2, 1, 3  # steps left out (first ones allocate), run unrecorded, recorded


class Profile(Callback):
    """Writes `profile/trace.json.gz` (for chrome://tracing or Perfetto) and `profile/table.txt` once, early in the run.

    A run that has fewer steps left gets a trace of what there is. The parts of a step have the names of `meter.PARTS`.
    """

    def __init__(self, run_dir: Path):
        self._folder = run_dir / FOLDER
        self._profile: profile | None = None
        self._written = False

    def on_start(self, step: int, steps: int) -> None:
        left = steps - step
        skip, warm = (_SKIP, _WARM) if left > _SKIP + _WARM else (0, min(_WARM, max(0, left - 1)))
        active = max(1, min(_STEPS, left - skip - warm))
        activities = [ProfilerActivity.CPU]
        activities += [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
        self._profile = profile(
            activities=activities,
            schedule=schedule(wait=skip, warmup=warm, active=active, repeat=1),
            on_trace_ready=self._write,
            profile_memory=True,
            record_shapes=True,
        )
        self._profile.start()

    def on_step(self, step: int) -> None:
        if self._profile is not None:
            self._profile.step()
            if self._written:
                self._end()

    def on_stop(self, step: int) -> None:
        self._end()

    def on_end(self, summary: Mapping[str, Any]) -> None:
        self._end()

    def _write(self, profiler: profile) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(self._folder / "trace.json.gz"))
        by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        write_text(self._folder / "table.txt", profiler.key_averages().table(sort_by=by, row_limit=40) + "\n")
        self._written = True

    def _end(self) -> None:
        profiler, self._profile = self._profile, None
        if profiler is not None:
            profiler.stop()
