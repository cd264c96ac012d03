"""The folder of a sweep's cell: one flat, readable name for the settings that make it."""

import hashlib
import re
from collections.abc import Collection, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString

_UNSAFE = re.compile(r"[/\\\"'#?*\x00-\x1f]+")  # separators of paths and URIs, quotes, line ends
_LONGEST = 200  # file systems take 255 bytes


def cell_name(overrides: Sequence[str], exclude: Collection[str]) -> str:
    """`compose-average_seed-0`, sorted: Hydra's `override_dirname` where that can be a folder.

    Where a value cannot stand in a name as it is, a few digits of the whole keep different cells apart.

    Args:
        overrides: `key=value`, as Hydra parsed them.
        exclude: keys that are left out.
    """
    lines = [o for o in overrides if _key(o) not in exclude]
    exact = "_".join(sorted(lines)).replace("=", "-")
    if not _UNSAFE.search(exact) and len(exact.encode()) <= _LONGEST:
        return exact
    name = "_".join(sorted(map(_plain, lines))).replace("=", "-")
    while len(name.encode()) > _LONGEST - 9:
        name = name[:-1]
    return f"{name}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"


def _key(override: str) -> str:
    return override.partition("=")[0].partition("@")[0].lstrip("+~")


def _plain(override: str) -> str:
    """`key=value` without quotes and without what cannot stand in a name."""
    read = OverridesParser.create().parse_override(override)._value
    text = f"{_key(override)}={read.text}" if isinstance(read, QuotedString) else override
    return _UNSAFE.sub("-", text).strip("-")
