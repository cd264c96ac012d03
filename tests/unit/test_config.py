"""YAML → dataclass: strict, and clear about what is wrong."""

import dataclasses
from typing import Literal

import pytest

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
