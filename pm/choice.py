"""A part that the configuration names: one class in one file of its own, found by that file's name.

A kind of parts (face detectors, masks, captioners, engines, ...) is a dataclass that says what all of them have in
common and declares their package:

    @dataclass(frozen=True)
    class FaceChoice(Choice, group="face", package="pm.photo.faces"):
        name: str
        min_size: Annotated[int, Ge(1)]

A part is a subclass in a module of that package, with the settings that are its own. `name` in the YAML is the name of
the module; or the name of an entry point in the group `photomaker.<group>` of an installed package; or the dotted name
of any module that can be imported. So a new part is one new file and one YAML, and touches none of ours.
"""

import difflib
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any, ClassVar, TypeVar

from pm.errors import ConfigError
from pm.outline import defines

T = TypeVar("T", bound="Choice")


class Choice:
    """Base of all kinds of parts. `group`: the name in the configuration; `package`: where our own parts live."""

    group: ClassVar[str]
    package: ClassVar[str]

    def __init_subclass__(cls, *, group: str | None = None, package: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if taken := {"group", "package"} & vars(cls).get("__annotations__", {}).keys():
            # The kind's own value would silently be the field's default.
            raise TypeError(f"{cls.__name__}.{min(taken)}: this name belongs to the kind of parts; give another")
        if group is not None and package is not None:
            cls.group, cls.package = group, package


def is_kind(hint: Any) -> bool:
    """Whether a type hint names a kind of parts, of which the configuration chooses one."""
    return isinstance(hint, type) and issubclass(hint, Choice) and "group" in vars(hint)


def find_part(kind: type[T], name: str, where: str = "") -> type[T]:
    """The class of the part with this name.

    Args:
        kind: what declares `group` and `package`.
        name: a module of the package, an entry point, or the dotted name of a module.
        where: dotted path of the setting, for messages.

    Raises:
        ConfigError: there is none (names those that there are), or its module cannot be imported.
    """
    where = where or kind.group
    try:
        module = _module(kind, name)
    except ImportError as error:
        raise ConfigError(f"{where}={name} cannot be imported ({error}); install the package that it needs") from error
    part = None if module is None else _part_in(module, kind)
    if part is None:
        names = part_names(kind)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        raise ConfigError(
            f"{where}={name!r} is not one of {', '.join(names)}{hint} a part of your own is named by its module "
            f"(my_package.my_module) or by an entry point in the group photomaker.{kind.group}"
        )
    return part


def part_names(kind: type[Choice]) -> list[str]:
    """Names of our own and of all installed parts of a kind, sorted; none of them is imported."""
    package = importlib.import_module(kind.package)
    modules = [m.name for m in pkgutil.iter_modules(package.__path__) if not m.ispkg and not m.name.startswith("_")]
    own = [m for m in modules if defines(f"{kind.package}.{m}", kind)]
    return sorted({*own, *(point.name for point in _entry_points(kind))})


def may_be_named(kind: type[Choice], name: str) -> bool:
    """Whether a file that may be anybody's, such as an adapter, may choose this part.

    One of our own, an installed one, or one whose module this program has imported already: nothing is imported because
    a file says so.
    """
    return name in part_names(kind) or name in sys.modules


def import_modules(names: Iterable[str]) -> None:
    """Import modules with parts of the user's own, so that an adapter may name them.

    Raises:
        ConfigError: one cannot be imported.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"modules={name} cannot be imported ({error}); is its folder on PYTHONPATH, and what it needs "
                "installed?"
            ) from error


def _module(kind: type[Choice], name: str) -> ModuleType | None:
    own = f"{kind.package}.{name}"
    if name.isidentifier() and importlib.util.find_spec(own):
        return importlib.import_module(own)
    for point in _entry_points(kind):
        if point.name == name:
            return importlib.import_module(point.module)
    # A bare word would be looked for among all installed libraries.
    if "." in name and all(word.isidentifier() for word in name.split(".")):
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:  # the package before the last dot
            found = None
        if found is not None:
            return importlib.import_module(name)
    return None


def _part_in(module: ModuleType, kind: type[T]) -> type[T] | None:
    """The part that a module defines; classes that it only imports do not count."""
    own = (v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__)
    return next((v for v in own if issubclass(v, kind) and v is not kind), None)


def _entry_points(kind: type[Choice]) -> list[importlib.metadata.EntryPoint]:
    return list(importlib.metadata.entry_points(group=f"photomaker.{kind.group}"))
