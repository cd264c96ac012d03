"""The toon protocol: portraits of held-out people, by the base alone and by adapters, and their scores."""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from pm.evaluate.metrics.base import MetricChoice, Reading
from pm.evaluate.statistics import Interval, bootstrap
from pm.evaluate.trials import Trial
from pm.sample.config import SamplerConfig
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import request_of
from pm.toon.attributes import Identity


class Reader(Protocol):
    """What reads attributes from pictures: the toon world's probe."""

    def read(self, images: np.ndarray) -> Sequence[Reading]:
        """Images uint8 [B, H, W, 3] → a reading of each."""


@dataclasses.dataclass(frozen=True)
class ReportRow:
    """One line of the report. `images`: a list for each trial, of uint8 [S, S, 3]."""

    name: str
    scores: dict[str, Interval | None]  # by metric, in the order of the configuration
    per_attribute: dict[str, float]
    seconds_per_image: float | None
    images: list[list[np.ndarray]]
    compose: str | None = None
    merge: str | None = None
    references: int | None = None


def portraits(
    pipeline: PhotoMakerPipeline,
    trials: list[Trial],
    references: int,
    sampler: SamplerConfig,
    progress: bool,
) -> tuple[list[list[np.ndarray]], float]:
    """Generate all images of all trials with `references` ID images each (0: the base alone).

    Returns:
        For each trial a list of images, uint8 [S, S, 3]; and seconds per image.
    """
    requests = []
    for trial in trials:
        shown = trial.references[:references]
        for seed in trial.seeds:
            requests.append(
                request_of(
                    sampler,
                    trial.prompt(pipeline.trigger_word if references else None),
                    id_images=[Image.fromarray(p.image) for p in shown],
                    masks=[Image.fromarray(p.mask) for p in shown],
                    seed=seed,
                )
            )
    start = time.perf_counter()
    images = [np.asarray(i) for i in pipeline.generate(requests, batch_size=sampler.batch_size, progress=progress)]
    seconds = (time.perf_counter() - start) / len(images)
    each = len(trials[0].seeds)
    return [images[i : i + each] for i in range(0, len(images), each)], seconds


def score(
    name: str,
    trials: list[Trial],
    images: list[list[np.ndarray]],
    probe: Reader,
    metrics: Sequence[MetricChoice],
    seconds: float | None = None,
    **about: Any,
) -> ReportRow:
    """Read every image with the probe and average, person by person.

    Args:
        about: the further fields of the row.
    """
    flat = probe.read(np.stack([image for row in images for image in row]))
    each = len(trials[0].seeds)
    by_person: dict[str, dict[Identity, list[float]]] = {metric.name: defaultdict(list) for metric in metrics}
    by_attribute: dict[str, list[float]] = defaultdict(list)
    for i, trial in enumerate(trials):
        readings = flat[i * each : (i + 1) * each]
        for metric in metrics:
            measured = metric.measure(trial, images[i], readings)
            if measured.values:
                by_person[metric.name][trial.person] += measured.values
            for attribute, hits in measured.per_attribute.items():
                by_attribute[attribute] += hits

    def mean(people: dict[Identity, list[float]]) -> Interval | None:
        return bootstrap([float(np.mean(values)) for values in people.values()]) if people else None

    return ReportRow(
        name=name,
        scores={metric: mean(people) for metric, people in by_person.items()},
        per_attribute={k: float(np.mean(v)) for k, v in by_attribute.items()},
        seconds_per_image=seconds,
        images=images,
        **about,
    )
