"""The table of commands, generated from what `photomaker` itself says of them."""

import ast
import importlib.util
from pathlib import Path
from typing import Any

PIPELINES = Path(__file__).parents[2] / "pipelines"
MARK = "<!-- commands -->"


def table() -> str:
    """Markdown: each command, what it does, and an example where its module has one."""
    spec = importlib.util.spec_from_file_location("photomaker_program", PIPELINES / "_photomaker.py")
    assert spec is not None and spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    rows = [f"| `{name}` | {what} | {_example(name)} |" for name, what in program.commands().items()]
    return "\n".join(["| command | what it does | for example |", "|---|---|---|", *rows])


def _example(name: str) -> str:
    file = PIPELINES / f"{name}.py"
    doc = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "") if file.exists() else ""
    examples = [line for line in doc.splitlines() if line.startswith(f"photomaker {name}")]
    return f"`{examples[0]}`" if examples else ""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table where the page marks its place."""
    return markdown.replace(MARK, table()) if MARK in markdown else markdown
