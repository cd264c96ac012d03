"""Methods with small settings, on one base, and a person to try them with."""

from dataclasses import replace

import numpy as np
import yaml

from pm.config import from_mapping
from pm.methods.base import MethodChoice
from pm.methods.trial import Photo, Trial
from pm.resources import resource
from pm.sample.config import SamplerConfig


def sampler(**changes) -> SamplerConfig:
    settings = yaml.safe_load(resource("conf/sampler/toon.yaml").read_text())
    return replace(from_mapping(SamplerConfig, settings), **{"steps": 3, "guidance": 3.0} | changes)


def choice(name, unchecked=None, **changes) -> MethodChoice:
    """`conf/method/<name>.yaml` with changes; `unchecked`: of its section `train`, whatever the values."""
    settings = yaml.safe_load(resource(f"conf/method/{name}.yaml").read_text())
    found = from_mapping(MethodChoice, settings | changes)
    return replace(found, train=replace(found.train, **unchecked)) if unchecked else found


def section(name, key):
    """A section of `conf/method/<name>.yaml`, as a mapping."""
    return yaml.safe_load(resource(f"conf/method/{name}.yaml").read_text())[key]


def photos(count=3, seed=0, side=40) -> list[Photo]:
    rng = np.random.default_rng(seed)
    mask = np.zeros((side, side), bool)
    mask[8:, 10:30] = True
    return [Photo(rng.integers(0, 256, (side, side, 3), dtype=np.uint8), mask, f"{i}.png") for i in range(count)]


def trial(person="anna", seed=0, seeds=(1, 2), class_word="man") -> Trial:
    return Trial(person, class_word, "{person} in a red shirt", tuple(photos(3, seed)), (), seeds)
