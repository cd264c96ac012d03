"""The toon protocol: held-out people × prompts × images, for the base alone, for adapters and for true drawings."""

import dataclasses
import random
import time
from collections import defaultdict

import numpy as np
from PIL import Image

from pm.evaluate import metrics
from pm.evaluate.config import ProtocolConfig
from pm.evaluate.metrics import Interval
from pm.sample.config import SamplerConfig
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import request_of
from pm.toon import captions
from pm.toon.attributes import Identity, Scene
from pm.toon.identities import framing, identities, scene
from pm.toon.probe import Probe
from pm.toon.render import Photo, render_photo


@dataclasses.dataclass(frozen=True)
class Trial:
    """One prompt for one person. `omitted` is what the prompt leaves open, so that diversity can show."""

    person: Identity
    references: tuple[Photo, ...]
    scene: Scene
    omitted: frozenset[str]
    seeds: tuple[int, ...]  # one per image

    def prompt(self, trigger: str | None) -> str:
        subject = f"a {self.person.class_word}" + (f" {trigger}" if trigger else "")
        return captions.describe(subject, self.scene, None, self.omitted)

    @property
    def prompted(self) -> dict[str, str]:
        return captions.prompted(self.scene, self.omitted)


@dataclasses.dataclass(frozen=True)
class ReportRow:
    """One line of the report. `images`: a list for each trial, of uint8 [S, S, 3]."""

    name: str
    identity: Interval
    prompt: Interval
    diversity: Interval | None
    per_attribute: dict[str, float]
    seconds_per_image: float | None
    images: list[list[np.ndarray]]
    compose: str | None = None
    merge: str | None = None
    references: int | None = None


def toon_trials(config: ProtocolConfig) -> list[Trial]:
    """The fixed trials of a protocol; the same config gives the same people, photos, prompts and seeds."""
    trials = []
    for p, person in enumerate(identities(config.identities, config.seed, "eval")):
        rng = random.Random(f"trial:{config.seed}:{p}")
        photos = tuple(
            render_photo(person, scene(rng), framing(rng), config.size) for _ in range(max(config.references))
        )
        for k in range(config.prompts):
            omitted = frozenset({("mouth", "background")[k % 2]})
            seeds = tuple(rng.getrandbits(31) for _ in range(config.images))
            trials.append(Trial(person, photos, scene(rng), omitted, seeds))
    return trials


def drawings(trials: list[Trial], size: int) -> list[list[np.ndarray]]:
    """The ceiling: the same people drawn by the toon world itself with the prompted attributes; what a prompt leaves
    open is drawn at random."""
    result = []
    for trial in trials:
        images = []
        for seed in trial.seeds:
            rng = random.Random(seed)
            other = scene(rng)
            view = dataclasses.replace(trial.scene, **{k: getattr(other, k) for k in trial.omitted})
            images.append(render_photo(trial.person, view, framing(rng), size).image)
        result.append(images)
    return result


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
    probe: Probe,
    seconds: float | None = None,
    **about,
) -> ReportRow:
    """Read every image with the probe and average, identity by identity."""
    flat = probe.read(np.stack([image for row in images for image in row]))
    each = len(trials[0].seeds)
    by_person: dict[str, dict[Identity, list[float]]] = {k: defaultdict(list) for k in ("identity", "prompt", "spread")}
    by_attribute: dict[str, list[float]] = defaultdict(list)
    for i, trial in enumerate(trials):
        readings = flat[i * each : (i + 1) * each]
        for reading in readings:
            hits = {"identity": metrics.identity_hits(reading, trial.person)}
            hits["prompt"] = metrics.prompt_hits(reading, trial.prompted)
            for kind, values in hits.items():
                by_person[kind][trial.person].append(float(np.mean(list(values.values()))))
                for attribute, hit in values.items():
                    by_attribute[attribute].append(hit)
        spread = metrics.diversity(readings, trial.prompted, trial.omitted)
        if spread is not None:
            by_person["spread"][trial.person].append(spread)

    def mean(kind: str) -> Interval:
        return metrics.bootstrap([float(np.mean(v)) for v in by_person[kind].values()])

    return ReportRow(
        name=name,
        identity=mean("identity"),
        prompt=mean("prompt"),
        diversity=mean("spread") if by_person["spread"] else None,
        per_attribute={k: float(np.mean(v)) for k, v in by_attribute.items()},
        seconds_per_image=seconds,
        images=images,
        **about,
    )
