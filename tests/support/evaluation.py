"""Trials of the toon suite with readings that are known."""

import functools

import numpy as np

from pm.evaluate.metrics.base import Model, Pictures
from pm.evaluate.metrics.diversity import _Diversity
from pm.evaluate.metrics.identity import _Identity
from pm.evaluate.metrics.prompt import _Prompt
from pm.evaluate.scores import ReportRow, scored
from pm.evaluate.suites.base import ProtocolConfig
from pm.evaluate.suites.toon import ToonSuite
from pm.evaluate.tables import Column
from pm.toon.attributes import visible_attributes

CONFIG = ProtocolConfig(identities=5, prompts=2, images=2, references=(1, 3), seed=0, size=64)
HEADS = {name: Column(name) for name in ("identity", "prompt", "diversity")}
KINDS = {"identity": _Identity, "prompt": _Prompt, "diversity": _Diversity}


@functools.cache
def trials_of(config):
    return ToonSuite("toon", config, occlusion=0).trials()


class PerfectProbe:
    """Reads what it is told was drawn."""

    def __init__(self, readings):
        self.readings = readings

    def read(self, images):
        assert len(images) == len(self.readings)
        return self.readings


def metric_of(name, readings=()):
    """A metric of the probe that reads what it is told."""
    metric = KINDS[name].__new__(KINDS[name])
    metric._probe, metric.model = PerfectProbe(readings), Model("perfect probe", "0" * 16)
    return metric


def row_of(readings_of, metrics=tuple(KINDS), name="row", **about):
    """The row of a report whose images were read as `readings_of(trial, number of the image)`."""
    trials = trials_of(CONFIG)
    readings = [readings_of(t, i) for t in trials for i in range(CONFIG.images)]
    images = [[np.zeros((2, 2, 3), np.uint8)] * CONFIG.images for _ in trials]
    loaded = {m: metric_of(m, readings) for m in metrics if isinstance(m, str)}
    loaded |= {m.name: m.load("cpu") for m in metrics if not isinstance(m, str)}
    seconds, references = about.pop("seconds", None), about.pop("references", None)
    batch = [Pictures(trial, shown) for trial, shown in zip(trials, images, strict=True)]
    scores, attributes = scored(trials, {key: m.measure(batch) for key, m in loaded.items()}, loaded)
    return ReportRow(
        name, name, scores, attributes, lambda t, i: images[t][i], references, about, seconds_per_image=seconds
    )


def true_reading(trial, i):
    return {"eyes": "open"} | visible_attributes(trial.facts.identity, trial.facts.scene)


def worse_reading(trial, i):
    return true_reading(trial, i) | {"skin": "none of them"}
