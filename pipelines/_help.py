"""`--help` of a command: what it does, an example, its settings as `conf/` describes them."""

import re
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

from pm.resources import conf_choices, resource

_LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w.]+):(?: (?P<value>\S.*?))??(?:\s+# (?P<comment>.*))?$")
_DEFAULT = re.compile(r"^  - (?P<group>[\w/]+)(?:@(?P<at>[\w.]+))?: (?P<choice>\w+)(?:\s+# (?P<comment>.*))?$")
_WIDTH = 44


def command_help(config_name: str, doc: str, program: str, renamed: Mapping[str, str] | None = None) -> str:
    """The text.

    Args:
        config_name: of `conf/<config_name>.yaml`.
        doc: of the command's module: a sentence, and below it an example, `photomaker <command> …`.
        program: how the command was called.
        renamed: names that the command line has for other keys.
    """
    what, _, example = doc.strip().partition("\n\n")
    text = Path(resource("conf"), f"{config_name}.yaml").read_text(encoding="utf-8")
    for name, key in (renamed or {}).items():
        text = re.sub(rf"^{key}:", f"{name}:", text, flags=re.MULTILINE)
    return "\n".join(
        [
            what,
            "",
            f"  {example.strip().replace(f'photomaker {config_name}', program, 1)}",
            "",
            *_titled("choices (<name>=<choice>):", _choices(text)),
            *_titled("settings (<name>=<value>) and their defaults:", _settings(text)),
            f"All settings with their values: {program} --cfg job",
            f"Hydra's own options (-m sweeps over values with commas between them): {program} --hydra-help",
        ]
    )


def choices(group: str) -> list[str]:
    """The YAML files of a group by name, those of installed packages too."""
    return list(conf_choices(group))


def _titled(title: str, lines: list[str]) -> list[str]:
    return [title, *(f"  {line}".rstrip() for line in lines), ""] if lines else []


def _choices(text: str) -> list[str]:
    found = [match for match in map(_DEFAULT.match, text.splitlines()) if match]
    lines = []
    for match in found:
        name = match["group"] + (f"@{match['at']}" if match["at"] else "")
        left = f"{name}={match['choice']}"
        owners = conf_choices(match["group"])
        others = [f"{name} (from {owner})" if owner else name for name, owner in owners.items()]
        others = [choice for choice in others if choice != match["choice"]]
        # Installed, but without a YAML file of its own: chosen by name in one of the user's.
        bare = sorted(point.name for point in entry_points(group=f"photomaker.{match['group']}"))
        others += [f"{name} (installed without YAML)" for name in bare if name not in owners]
        lines.append(f"{left:{_WIDTH}}{'or ' + ', '.join(others) if others else ''}")
    return lines


def _settings(text: str) -> list[str]:
    """Those at the top, and those below them that have a comment."""
    lines: list[str] = []
    parents: list[str] = []
    for match in filter(None, map(_LINE.match, text.splitlines())):
        depth = len(match["indent"]) // 2
        parents = [*parents[:depth], match["key"]]
        if parents[0] in ("defaults", "hydra") or match["value"] is None or not (depth == 0 or match["comment"]):
            continue
        left = f"{'.'.join(parents)}={match['value']}"
        lines.append(f"{left:{_WIDTH}}{' ' if len(left) >= _WIDTH else ''}{match['comment'] or ''}")
    return lines
