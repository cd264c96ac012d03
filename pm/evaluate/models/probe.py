"""The toon world's attribute probe, as three metrics share it."""

import functools
import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from pm.evaluate.metrics.base import Measured, Metric, Model, Pictures
from pm.methods.trial import Trial
from pm.toon.probe import Probe, load_probe

Reading = Mapping[str, str]  # attribute → the value the probe read


@functools.lru_cache(maxsize=2)
def loaded_probe(path: str, device: str) -> tuple[Probe, Model]:
    """A probe, read once for all metrics, and which it is.

    Raises:
        CheckpointError: the file is missing, damaged, or of another attribute table.
    """
    probe = load_probe(path)
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return probe.to(torch.device(device)), Model("toon probe", digest[:16])


class ProbeMetric(Metric):
    """A metric of what the probe reads from each image. Nothing applies to trials of other suites."""

    def __init__(self, path: str, device: str) -> None:
        """Raises CheckpointError as `loaded_probe` does."""
        self._probe, self.model = loaded_probe(path, device)

    def measure(self, batch: Sequence[Pictures]) -> list[Measured]:
        images = [image for pictures in batch for image in pictures.images]
        readings = iter(self._read(images))
        result = []
        for pictures in batch:
            mine = [next(readings) for _ in pictures.images]
            result.append(Measured([]) if pictures.trial.facts is None else self.judge(pictures.trial, mine))
        return result

    @abstractmethod
    def judge(self, trial: Trial, readings: Sequence[Reading]) -> Measured:
        """The values of one trial from what was read of its images."""

    def _read(self, images: Sequence[np.ndarray]) -> list[Reading]:
        same = len({image.shape for image in images}) == 1
        groups = [np.stack(images)] if same else [image[None] for image in images]
        return [reading for group in groups for reading in self._probe.read(group)]
