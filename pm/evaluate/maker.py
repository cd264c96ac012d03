"""A worker of an evaluation: makes pictures in batches, and measures them. It writes no file."""

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from pm.choice import import_modules
from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, Pictures
from pm.evaluate.scores import load_metrics
from pm.evaluate.store import Item
from pm.methods.base import Method, MethodChoice
from pm.methods.trial import Trial
from pm.model.config import BaseConfig
from pm.photo.pixels import encode_png
from pm.sample.config import SamplerConfig
from pm.sample.devices import pick_device, pick_dtype


@dataclass(frozen=True)
class Setup:
    """What a worker needs to know; the same for all."""

    base: BaseConfig
    sampler: SamplerConfig
    metrics: tuple[MetricChoice, ...]
    modules: tuple[str, ...]
    device: str
    dtype: str
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Made:
    """A piece of work: files, and what they took."""

    files: list[bytes]
    seconds: float
    peak: int  # bytes of memory at most since the worker's start: of the GPU if there is one
    about: Mapping[str, Any]  # what the method says of itself


class Maker:
    """Holds one method at a time."""

    def __init__(self, setup: Setup) -> None:
        import_modules(setup.modules)
        self.setup, self.device = setup, pick_device(setup.device)
        self._choice: MethodChoice | None = None
        self._method: Method | None = None
        self._states: dict[tuple[str, int], Any] = {}  # of the method in hand
        self._metrics: dict[str, Metric | str] = {}  # those that were asked for

    def personalise(self, choice: MethodChoice, references: int, trial: int) -> Made:
        """The state of a trial's person, as a file of `torch.save`."""
        method = self._loaded(choice)
        start = time.perf_counter()
        state = self._new_state(method, references, self.setup.trials[trial])
        seconds = time.perf_counter() - start
        file = io.BytesIO()
        torch.save(state, file)
        return Made([file.getvalue()], seconds, self._peak(), dict(method.about))

    def make(
        self, choice: MethodChoice, references: int, items: Sequence[Item], states: Mapping[str, bytes] | None = None
    ) -> Made:
        """Pictures of one batch as PNG files, in the order of `items`.

        Args:
            choice: the method.
            references: photos of each person that count.
            items: one row of the sampler each, so the same batch gives the same pixels wherever it is made.
            states: what `personalise` gave, by person; None: made here.
        """
        method = self._loaded(choice)
        start = time.perf_counter()
        requests = {}
        for t in dict.fromkeys(trial for trial, _ in items):
            trial = self.setup.trials[t]
            key = (trial.person, references)
            if key not in self._states:
                self._states[key] = (
                    self._new_state(method, references, trial)
                    if states is None
                    else torch.load(io.BytesIO(states[trial.person]), weights_only=True)
                )
            requests[t] = method.requests(self._states[key], trial, references)
        images = method.pipeline.generate([requests[t][n] for t, n in items], batch_size=len(items))
        seconds = time.perf_counter() - start
        people = {self.setup.trials[t].person for t, _ in items}
        self._states = {key: state for key, state in self._states.items() if key[0] in people}
        return Made([encode_png(np.asarray(image)) for image in images], seconds, self._peak(), dict(method.about))

    def measure(
        self, trials: Sequence[int], columns: frozenset[str], files: Sequence[Sequence[bytes]]
    ) -> dict[str, list[Measured] | str]:
        """What metrics say of trials, or why one says nothing.

        Args:
            trials: their numbers.
            columns: which metrics, by their columns.
            files: PNG files of each trial.
        """
        new = [choice for choice in self.setup.metrics if choice.key in columns - self._metrics.keys()]
        self._metrics |= load_metrics(new, str(self.device), tell=False)
        batch = [
            Pictures(self.setup.trials[t], [np.asarray(Image.open(io.BytesIO(f)).convert("RGB")) for f in of])
            for t, of in zip(trials, files, strict=True)
        ]
        found = {name: metric for name, metric in self._metrics.items() if name in columns}
        return {name: m if isinstance(m, str) else m.measure(batch) for name, m in found.items()}

    def _loaded(self, choice: MethodChoice) -> Method:
        if self._method is None or self._choice != choice:
            kept = None if self._method is None else self._method.pipeline  # the next one shares it
            if self._method is not None:
                self._method.close()
            self._method, self._states = None, {}  # room for the next
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            setup, dtype = self.setup, pick_dtype(self.setup.dtype, self.device)
            self._method, self._choice = choice.load(setup.base, setup.sampler, self.device, dtype), choice
            del kept
        return self._method

    @staticmethod
    def _new_state(method: Method, references: int, trial: Trial) -> Any:
        return method.personalise(trial.references[:references], trial.class_word, trial.seeds[0])

    def _peak(self) -> int:
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
