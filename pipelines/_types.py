"""Which settings are text, and which are lists of text, by the dataclasses that they end in."""

import contextlib
import dataclasses
import importlib
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Literal

from pipelines._named import NONE, Named
from pm.choice import find_part, is_kind, part_names
from pm.errors import ConfigError

Kind = Literal["text", "texts"]


def kind_of(key: str, declared: type, extra: Mapping[str, Any], named: Named = NONE) -> Kind | None:
    """Whether a setting is text or a list of text; None: anything else, and what is not known.

    Args:
        key: as on the command line, `sampler.negative_prompt`.
        declared: the dataclass of all settings.
        extra: types of settings beside those.
        named: of `named_modules`. One is imported when a setting below its key is asked for, and only then.
    """
    first, *rest = key.split(".")
    hints = list(_leaves(extra[first])) if first in extra else list(_fields(declared, first))
    path = first
    for name in rest:
        own = named.get(path, ())
        hints = [below for hint in hints for below in _fields(hint, name, own)]
        path += f".{name}"
    found = {_kind(hint) for hint in hints if hint is not type(None)}
    return found.pop() if len(found) == 1 else None


def _kind(hint: Any) -> Kind | None:
    if hint is str:
        return "text"
    return "texts" if typing.get_origin(hint) is tuple and set(_leaves(typing.get_args(hint)[0])) == {str} else None


def _leaves(hint: Any) -> Iterator[Any]:
    """A hint without `Annotated`, and the members of a union one by one."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        yield from _leaves(typing.get_args(hint)[0])
    elif origin in (typing.Union, types.UnionType):
        for member in typing.get_args(hint):
            yield from _leaves(member)
    else:
        yield hint


def _fields(hint: Any, name: str, named: Collection[str] = ()) -> Iterator[Any]:
    """What `hint.name` may be: a field, an entry of a mapping or of a list."""
    args = typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        for cls in _parts(hint, named):
            hints = typing.get_type_hints(cls, include_extras=True)
            yield from _leaves(hints[name]) if name in hints else ()
    elif typing.get_origin(hint) is dict and args:
        yield from _leaves(args[1])
    elif typing.get_origin(hint) is tuple and name.isdigit():
        yield from _leaves(args[0])


def _parts(cls: Any, named: Collection[str]) -> list[Any]:
    """The classes that a configuration may choose there: each part of a kind and those named, else the class itself."""
    if not is_kind(cls):
        return [cls]
    importlib.import_module(cls.package)
    found = [cls, *(find_part(cls, name) for name in part_names(cls))]
    for name in named:
        with contextlib.suppress(ConfigError):  # there is none: said where the settings are read
            found.append(find_part(cls, name))
    return found
