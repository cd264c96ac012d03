"""Whether commas make a sweep, where they separate values, and where they belong to one."""

import re
from pathlib import Path

import yaml

from pm.resources import resource

_QUOTED = re.compile(r"""\s*(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")\s*(?=,|$)""", re.DOTALL)
_PAIRS = {"[": "]", "(": ")", "{": "}"}


def split(text: str) -> list[str]:
    """Split at commas, except inside a quoted value, inside brackets that close again, and after a backslash."""
    values, start, at = [], 0, 0
    while at < len(text):
        quoted = _QUOTED.match(text, at) if at == start else None
        if quoted:
            at = quoted.end()
        elif text[at] == "\\":
            at += 2
        elif text[at] in _PAIRS:
            at = _closing(text, at) + 1
        elif text[at] == ",":
            values.append(text[start:at].strip())
            start = at = at + 1
        else:
            at += 1
    return [*values, text[start:].strip()]


def _closing(text: str, opening: int) -> int:
    """Where the bracket at `opening` is closed; itself where it never is."""
    depth, bracket = 0, text[opening]
    for at in range(opening, len(text)):
        depth += (text[at] == bracket) - (text[at] == _PAIRS[bracket])
        if depth == 0:
            return at
    return opening


def starts_sweep(setting: str) -> bool:
    """Whether a chosen YAML is a sweep without `-m`, as experiment=table2a is."""
    group, _, choices = setting.partition("=")
    if group == "hydra.mode":
        return choices == "MULTIRUN"
    files = (Path(resource("conf"), group.partition("@")[0], f"{c}.yaml") for c in re.findall(r"[\w-]+", choices))
    found = (yaml.safe_load(file.read_text(encoding="utf-8")) or {} for file in files if file.is_file())
    return any((content.get("hydra") or {}).get("mode") == "MULTIRUN" for content in found)
