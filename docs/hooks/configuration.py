"""The reference of the configuration, generated from `conf/`: every file, with each key's default and comment."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CONF = Path(__file__).parents[2] / "conf"
INTRO = """# Configuration

Every default lives in `conf/`, one YAML file for each choice; this page is generated from those files.
`photomaker <command> --cfg job` prints the settings of a command as they are used.

- `group=option` chooses a file of a group: `engine=zero3`.
- `key=value` overrides one setting: `train.steps=500`.
- `+key=value` adds an entry where names are free: `+adapters.mine=a.safetensors`.
- `???` marks a setting that has to be given.
"""
# Hydra's own section is the same in every command and of no use to a reader.
SKIPPED = ("hydra", "defaults")
QUOTED = r"""(?<=[\s\[,{])("[^"]*"|'[^']*')"""


def render(conf: Path = CONF) -> str:
    """Markdown of the whole reference: first the commands' files, then each group with its options."""
    parts = [INTRO, "## Commands\n"]
    parts += [_section(file, f"{file.stem}.yaml") for file in sorted(conf.glob("*.yaml"))]
    for group in sorted({file.parent for file in conf.rglob("*.yaml")} - {conf}):
        name = group.relative_to(conf).as_posix()
        parts.append(f"## {name}\n")
        parts += [_section(file, f"{name}={file.stem}") for file in sorted(group.glob("*.yaml"))]
    return "\n".join(parts)


def settings(text: str) -> list[tuple[str, str, str]]:
    """Each setting of a YAML text as (dotted key, default as YAML, comment), in the file's order."""
    tree, lines = yaml.compose(text), text.splitlines()
    return [] if tree is None else list(_walk(tree, lines, ""))


def header(text: str) -> str:
    """The comment at the head of a file, without Hydra's `@package` line."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line[1:])
    # An indented line is an example: in Markdown a code block, which stands apart.
    blocks: list[str] = []
    for line in lines:
        is_code = line.startswith("   ")
        if blocks and is_code != blocks[-1].startswith("    "):
            blocks.append("")
        blocks.append(f"    {line.strip()}" if is_code else line.strip())
    return "\n".join(blocks)


def _section(file: Path, title: str) -> str:
    text = file.read_text(encoding="utf-8")
    out = [f"### {title}", "", header(text), ""]
    overrides = re.findall(r"^  - (.+?)(?:\s+#.*)?$", text, re.M) if re.search(r"^defaults:", text, re.M) else []
    groups = [line for line in overrides if line != "_self_" and "hydra" not in line]
    if groups:
        out += ["Chooses: " + ", ".join(f"`{re.sub('^override /', '', group)}`" for group in groups) + ".", ""]
    rows = settings(text)
    if rows:
        out += ["| setting | default | |", "|---|---|---|"]
        out += [f"| `{key}` | {_cell(value)} | {_escaped(comment)} |" for key, value, comment in rows]
        out.append("")
    return "\n".join(out)


def _walk(tree: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[tuple[str, str, str]]:
    for key, value in tree.value:
        if not prefix and key.value in SKIPPED:
            continue
        name, comment = f"{prefix}{key.value}", _comment(lines, key.start_mark.line)
        if isinstance(value, yaml.MappingNode) and value.value and not value.flow_style:
            if comment:
                yield f"{name}.*", "", comment
            yield from _walk(value, lines, f"{name}.")
        else:
            yield name, _default(value), comment


def _default(node: yaml.Node) -> str:
    value = yaml.safe_load(yaml.serialize(node))
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()


def _comment(lines: list[str], line: int) -> str:
    """What stands after a key, and what stands alone in the lines above it."""
    above = []
    for text in reversed(lines[:line]):
        if not text.strip().startswith("#") or not text.startswith(" ") and lines.index(text) < _first_key(lines):
            break
        above.insert(0, text.strip().lstrip("# "))
    # A `#` within quotes begins no comment; as many other characters keep the place of what follows.
    unquoted = re.sub(QUOTED, lambda quoted: "_" * len(quoted[0]), lines[line])
    after = re.search(r"(?:^|\s)#\s(.*)$", unquoted)
    inline = [lines[line][after.start(1) :]] if after else []
    return " ".join(above + inline)


def _first_key(lines: list[str]) -> int:
    return next((i for i, text in enumerate(lines) if text and not text.startswith("#")), len(lines))


def _cell(value: str) -> str:
    return f"`{value.replace('|', chr(92) + '|')}`" if value else ""


def _escaped(comment: str) -> str:
    return re.sub(r"([|<>*])", r"\\\1", comment)


def on_files(files: Any, config: Any) -> Any:
    """Add the page to the site."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "configuration.md", content=render()))
    return files
