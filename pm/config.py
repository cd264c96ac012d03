"""Turn a plain mapping (from YAML) into frozen dataclasses, strictly.

Each room keeps its own dataclasses in its `config.py`; defaults live in `conf/` only, so a field without a value
is an error here and never a second default.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pm.errors import ConfigError

T = TypeVar("T")


def from_mapping(cls: type[T], mapping: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass `cls` from `mapping`, recursively; checks in `cls.__post_init__` run on the way.

    Args:
        cls: a dataclass. Fields may be scalars, `X | None`, `tuple[X, ...]`, `Literal`, dict, or other dataclasses.
        mapping: plain Python values, for example `OmegaConf.to_container(cfg, resolve=True)`.
        where: dotted path of `mapping` in the whole config, for messages.

    Raises:
        ConfigError: an unknown key (names the valid ones), a missing key, or a value of the wrong type.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{where or cls.__name__} must be a mapping, got {mapping!r}")
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    for key in mapping:
        if key not in names:
            raise ConfigError(unknown_key(f"{where}.{key}".lstrip("."), str(key), names))
    values = {}
    for field in dataclasses.fields(cls):
        path = f"{where}.{field.name}".lstrip(".")
        if field.name in mapping:
            values[field.name] = _convert(hints[field.name], mapping[field.name], path)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{path} is missing; set it in conf/ or on the command line ({path}=...)")
    return cls(**values)


def unknown_key(path: str, key: str, valid: Sequence[str]) -> str:
    """The one message for an unknown key: what it is, the nearest valid name, all valid names."""
    near = difflib.get_close_matches(key, valid, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown config key {path!r}{hint or ';'} valid keys: {', '.join(sorted(valid))}"


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        rest = [a for a in args if a is not type(None)]
        return _convert(rest[0] if len(rest) == 1 else _matching(rest, value, path), value, path)
    if dataclasses.is_dataclass(hint):
        return from_mapping(hint, value, path)
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{path}={value!r} is not one of {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ConfigError(f"{path} must be a list, got {value!r}")
        return tuple(_convert(args[0], v, f"{path}[{i}]") for i, v in enumerate(value))
    if origin is dict or hint is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} must be a mapping, got {value!r}")
        return dict(value)
    return _scalar(hint, value, path)


def _matching(hints: list, value: Any, path: str) -> Any:
    for hint in hints:
        if isinstance(hint, type) and isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
            return hint
    raise ConfigError(f"{path}={value!r} must be one of the types {', '.join(h.__name__ for h in hints)}")


def _scalar(hint: Any, value: Any, path: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError(f"{path} must be {hint.__name__}, got {value!r}")
    return value
