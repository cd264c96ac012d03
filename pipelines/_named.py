"""Which modules a command line chooses as parts: `face.name=my_package.my_faces`."""

import re
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from pipelines._split import split

Named = Mapping[str, Collection[str]]  # setting → dotted names that it is given; most are no modules
NONE: Named = MappingProxyType({})
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def named_modules(settings: Iterable[str]) -> Named:
    """Dotted names among the values, each under the setting that they may be a part of; nothing is imported."""
    named: dict[str, list[str]] = {}
    for setting in settings:
        key, _, value = setting.lstrip("+").partition("=")
        words = [word.strip(" '\"") for word in split(value)]
        named.setdefault(key.removesuffix(".name"), []).extend(w for w in words if _DOTTED.fullmatch(w))
    return named
