"""YAML → dataclass: strict, and clear about what is wrong."""

import dataclasses
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Le, Lt, MinLen

from pm.config import from_mapping
from pm.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float
    kind: Literal["a", "b"]


@dataclasses.dataclass(frozen=True)
class Outer:
    steps: int
    inner: Inner
    names: tuple[str, ...]
    limit: int | None
    precision: Literal["fp32"] | None


GOOD = {"steps": 3, "inner": {"rate": 1, "kind": "a"}, "names": ["x"], "limit": None, "precision": None}


def test_builds_nested():
    assert from_mapping(Outer, GOOD) == Outer(3, Inner(1.0, "a"), ("x",), None, None)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"stpes": 1}, "unknown config key 'stpes'; did you mean 'steps'"),
        ({"inner": {"rate": 1, "kind": "c"}}, "inner.kind='c' is not one of a, b"),
        ({"steps": "many"}, "steps must be int, got 'many'"),
        ({"steps": True}, "steps must be int, got True"),
        ({"names": "x"}, "names must be a list"),
        ({"inner": 3}, "inner must be a mapping"),
    ],
)
def test_errors_name_thing_value_and_way_out(change, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        from_mapping(Outer, GOOD | change)


def test_missing_key():
    with pytest.raises(ConfigError, match="limit is missing"):
        from_mapping(Outer, {k: v for k, v in GOOD.items() if k != "limit"})


@dataclasses.dataclass(frozen=True)
class Ranges:
    share: Annotated[float, Gt(0), Le(1)]
    side: Annotated[int | None, Ge(8)]
    betas: Annotated[tuple[float, ...], MinLen(2), Ge(0), Lt(1)]


FITS = {"share": 1, "side": None, "betas": [0.9, 0.999]}


def test_ranges_stand_beside_the_field():
    assert from_mapping(Ranges, FITS) == Ranges(1.0, None, (0.9, 0.999))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"share": 0}, "^crop.share=0.0 must be above 0 and at most 1$"),
        ({"share": 1.5}, "crop.share=1.5 must be above 0 and at most 1"),
        ({"share": float("nan")}, "crop.share=nan must be above 0"),
        ({"side": 7}, "crop.side=7 must be at least 8"),
        ({"betas": [0.9, 1]}, "crop.betas=1.0 must be at least 0 and below 1"),
        ({"betas": [0.9]}, "crop.betas needs 2 entries at least"),
    ],
)
def test_out_of_range(change, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(Ranges, FITS | change, "crop")
