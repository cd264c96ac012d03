"""Settings by their dotted names: found, changed, and read from text as a person types them."""

import copy
import dataclasses
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import yaml

from pm.choice import is_kind
from pm.config import from_mapping
from pm.errors import RequestError, did_you_mean
from pm.sample.config import GenerateConfig, SamplerConfig

_MOST = 10_000  # values of an axis
_PLURALS = {"seeds": "seed", "prompts": "prompt", "adapters": "adapter", "schedules": "schedule", "scales": "scale"}
_RANGE = re.compile(r"(\d+)-(\d+)")


def full_name(name: str, fixed: Sequence[str]) -> str:
    """The dotted name of a setting of `generate`: its own, or that of the sampler's (`steps` → `sampler.steps`).

    Args:
        name: as typed.
        fixed: what cannot be varied.

    Raises:
        RequestError: there is none, or it is fixed; names those that there are.
    """
    word = _PLURALS.get(name, name)
    own = [field.name for field in dataclasses.fields(GenerateConfig) if field.name not in ("sampler", *fixed)]
    sampler = [field.name for field in dataclasses.fields(SamplerConfig) if field.name not in fixed]
    if word in own:
        return word
    if word.removeprefix("sampler.") in sampler:
        return f"sampler.{word.removeprefix('sampler.')}"
    if word.partition(".")[0] in fixed:
        raise RequestError(f"{name} is the same for a whole sheet; vary one of {', '.join([*own, *sampler])}")
    valid = [*own, *sampler]
    raise RequestError(f"{name!r} is no setting{did_you_mean(word, valid) or ';'} use one of {', '.join(valid)}")


def values_of(name: str, text: str) -> list[Any]:
    """The values in a text, between `|` where there is one (prompts: always), else between commas; `0-3` is a range.

    Raises:
        RequestError: there is none, or one is missing between two separators.
    """
    hints = _hints(name)
    # Prompts have commas of their own, and so have lists in brackets.
    apart = text.split("|") if "|" in text or name.endswith("prompt") else re.split(r",(?![^\[]*\])", text)
    parts = [part.strip() for part in apart]
    found: list[Any] = []
    for part in parts:
        span = _RANGE.fullmatch(part) if int in hints else None
        if span and int(span[1]) <= int(span[2]) < int(span[1]) + _MOST:
            found += range(int(span[1]), int(span[2]) + 1)
        elif not part:
            raise RequestError(f"{name}: a value is missing in {text!r}; write for example {name}:1,2,3")
        else:
            found.append(_value(part, hints))
    return found


def changed(config: GenerateConfig, changes: Mapping[str, Any]) -> GenerateConfig:
    """The same settings but those of `changes`, by their dotted names, checked as a configuration is.

    Raises:
        ConfigError: a value that cannot be.
    """
    settings = dataclasses.asdict(config)
    for name, value in changes.items():
        put(settings, name, value)
    return from_mapping(GenerateConfig, settings)


def put(settings: dict[str, Any], name: str, value: Any) -> None:
    """Set one by its dotted name, in place."""
    *parents, last = name.split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
    settings[last] = copy.deepcopy(value)


def _value(text: str, hints: set[Any]) -> Any:
    """As the setting's type has it: text stays text; `null` is none; numbers and lists are YAML's."""
    if text in ("null", "None", "none") and type(None) in hints:
        return None
    if hints - {type(None)} <= {str}:
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _hints(name: str) -> set[Any]:
    cls: Any = SamplerConfig if name.startswith("sampler.") else GenerateConfig
    return _leaves(typing.get_type_hints(cls, include_extras=True)[name.removeprefix("sampler.")])


def _leaves(hint: Any) -> set[Any]:
    """The types that a hint allows; names of parts and of literals count as text."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return _leaves(typing.get_args(hint)[0])
    if origin in (typing.Union, types.UnionType):
        return set().union(*map(_leaves, typing.get_args(hint)))
    if origin is typing.Literal or is_kind(hint):
        return {str}
    return {hint}
