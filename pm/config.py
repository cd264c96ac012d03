"""Turn a plain mapping (from YAML) into frozen dataclasses, strictly.

Each room keeps its own dataclasses in its `config.py`, and each choice (`pm.choice`) in its own file; defaults live in
`conf/` only, so a field without a value is an error here and never a second default. The range of a number stands
beside the field: `Annotated[float, Ge(0), Lt(1)]`.
"""

import dataclasses
import operator
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar, cast

from annotated_types import Ge, Gt, Interval, Le, Lt, MinLen

from pm.choice import find_part, is_kind
from pm.errors import ConfigError, did_you_mean

T = TypeVar("T")
# Keys of earlier versions, and what they are now.
_MOVED = {
    "verify.min_spread": "embedder.min_spread, a number of the embedder that is chosen",
    "verify.max_distance": "embedder.max_distance, a number of the embedder that is chosen; verify.common_person=false "
    "lets groups of any distance pass",
}


def from_mapping(cls: type[T], mapping: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass `cls` from `mapping`, recursively; checks in `cls.__post_init__` run on the way.

    Args:
        cls: a dataclass. Fields may be scalars, `X | None`, `tuple[X, ...]`, `Literal`, dict, other dataclasses, kinds
            of parts (`pm.choice.Choice`; a plain string is the name of a part without settings), and each of them
            `Annotated` with `Ge`, `Gt`, `Le`, `Lt`, `Interval` or `MinLen` of annotated_types.
        mapping: plain Python values, for example `OmegaConf.to_container(cfg, resolve=True)`.
        where: dotted path of `mapping` in the whole config, for messages.

    Raises:
        ConfigError: an unknown key (names the valid ones), a missing key, a value of the wrong type or out of range.
    """
    by_name = is_kind(cls) and isinstance(mapping, str)
    if by_name:
        mapping = {"name": mapping}
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{where or cls.__name__} must be a mapping, got {mapping!r}")
    chosen: Any = _chosen(cls, mapping, where) if is_kind(cls) else cls
    hints = typing.get_type_hints(chosen, include_extras=True)
    fields = dataclasses.fields(chosen)
    names = [f.name for f in fields]
    for key in mapping:
        if key not in names:
            raise ConfigError(unknown_key(f"{where}.{key}".lstrip("."), str(key), names))
    values = {}
    for field in fields:
        path = f"{where}.{field.name}".lstrip(".")
        if field.name in mapping:
            values[field.name] = _convert(hints[field.name], mapping[field.name], path)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            if by_name:
                name, kind = mapping["name"], cast(Any, cls).group
                raise ConfigError(
                    f"{where}={name} lacks {field.name}; choose {kind}={name}, which has a default for it, and change "
                    f"that with {path}=..."
                )
            raise ConfigError(f"{path} is missing; set it in conf/ or on the command line ({path}=...)")
    return chosen(**values)


def unknown_key(path: str, key: str, valid: Sequence[str]) -> str:
    """The one message for an unknown key: what it is, the nearest valid name, all valid names."""
    for old, new in _MOVED.items():
        if path == old or path.startswith(f"{old}."):
            return f"config key {path!r} is now {new}"
    return f"unknown config key {path!r}{did_you_mean(key, valid) or ';'} valid keys: {', '.join(sorted(valid))}"


def _chosen(kind: Any, mapping: Mapping[str, Any], where: str) -> Any:
    where = where or kind.group
    if not isinstance(mapping.get("name"), str):
        raise ConfigError(f"{where}.name is missing; choose one with {kind.group}=..., see conf/{kind.group}/")
    return find_part(kind, mapping["name"], where)


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        converted = _convert(args[0], value, path)
        if converted is not None:
            _check_range(converted, args[1:], path)
        return converted
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        rest = [a for a in args if a is not type(None)]
        return _convert(rest[0] if len(rest) == 1 else _matching(rest, value, path), value, path)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_mapping(hint, value, path)
    if origin is typing.Literal:
        if value is False and "off" in args:  # what YAML takes a bare off for
            return "off"
        if value not in args:
            near = did_you_mean(str(value), map(str, args))
            raise ConfigError(f"{path}={value!r} is not one of {', '.join(map(str, args))}{near}")
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


def _check_range(value: Any, limits: Sequence[Any], path: str) -> None:
    """Refuse a value outside the limits declared beside its field; lists are checked element by element."""
    bounds: dict[str, Any] = {}
    for limit in limits:
        if isinstance(limit, MinLen) and len(value) < limit.min_length:
            raise ConfigError(f"{path} needs {limit.min_length} entries at least, got {value!r}")
        for name in ("ge", "gt", "le", "lt"):
            if isinstance(limit, Ge | Gt | Le | Lt | Interval) and getattr(limit, name, None) is not None:
                bounds[name] = getattr(limit, name)
    holds = {"ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt}
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    for each in value if isinstance(value, tuple) else (value,):
        if not all(holds[name](each, bound) for name, bound in bounds.items()):  # NaN fails too
            asked = " and ".join(f"{words[name]} {bound:g}" for name, bound in bounds.items())
            raise ConfigError(f"{path}={each} must be {asked}")


def _matching(hints: list, value: Any, path: str) -> Any:
    for hint in hints:
        if typing.get_origin(hint) is tuple and isinstance(value, Sequence) and not isinstance(value, str):
            return hint
        if isinstance(hint, type) and isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
            return hint
    raise ConfigError(f"{path}={value!r} must be one of the types {', '.join(_plain(h) for h in hints)}")


def _plain(hint: Any) -> str:
    return "list" if typing.get_origin(hint) is tuple else str(hint.__name__)


def _scalar(hint: Any, value: Any, path: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError(f"{path} must be {hint.__name__}, got {value!r}")
    return value
