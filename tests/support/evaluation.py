"""Trials of the toon protocol with readings that are known."""

import functools

import numpy as np

from pm.evaluate import protocol
from pm.evaluate.config import ProtocolConfig
from pm.evaluate.metrics.diversity import Diversity
from pm.evaluate.metrics.identity import Identity
from pm.evaluate.metrics.prompt import Prompt
from pm.evaluate.trials import toon_trials
from pm.toon.attributes import visible_attributes

CONFIG = ProtocolConfig(identities=5, prompts=2, images=2, references=(1, 3), seed=0, size=64)
METRICS = (Identity("identity"), Prompt("prompt"), Diversity("diversity"))

trials_of = functools.cache(toon_trials)


class PerfectProbe:
    """Reads what it is told was drawn."""

    def __init__(self, readings):
        self.readings = readings

    def read(self, images):
        assert len(images) == len(self.readings)
        return self.readings


def row_of(readings_of, metrics=METRICS, name="row", **about):
    """The row of a report whose images were read as `readings_of(trial, number of the image)`."""
    trials = trials_of(CONFIG)
    readings = [readings_of(t, i) for t in trials for i in range(CONFIG.images)]
    images = [[np.zeros((2, 2, 3), np.uint8)] * CONFIG.images for _ in trials]
    return protocol.score(name, trials, images, PerfectProbe(readings), metrics, **about)


def true_reading(trial, i):
    return {"eyes": "open"} | visible_attributes(trial.person, trial.scene)


def worse_reading(trial, i):
    return true_reading(trial, i) | {"skin": "none of them"}
