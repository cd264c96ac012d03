"""The table of commands, generated from what `photomaker` itself says of them."""

import ast
import importlib
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PIPELINES = ROOT / "pipelines"
MARK = "<!-- commands -->"


def table() -> str:
    """Markdown: each command, what it does, and an example where its module has one."""
    sys.path.insert(0, str(ROOT))  # that module needs nothing but Python
    try:
        found = importlib.import_module("pipelines._commands").commands()
    finally:
        sys.path.remove(str(ROOT))
    rows = [f"| `{name}` | {what} | {_example(name)} |" for name, what in found.items()]
    return "\n".join(["| command | what it does | for example |", "|---|---|---|", *rows])


def _example(name: str) -> str:
    file = PIPELINES / f"{name}.py"
    doc = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "") if file.exists() else ""
    examples = [line for line in doc.splitlines() if line.startswith(f"photomaker {name}")]
    return f"`{examples[0]}`" if examples else ""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table where the page marks its place."""
    return markdown.replace(MARK, table()) if MARK in markdown else markdown
