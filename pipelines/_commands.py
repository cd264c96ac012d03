"""The commands there are, and what each does in a line."""

import ast
from pathlib import Path

_HERE = Path(__file__).resolve().parent
OTHERS = {
    "keys": "API keys of the server: add, remove, list.",
    "edit": "Corrections of a dataset by hand: keep, reject, caption, merge, split, undo, apply.",
    "audit": "Who is in datasets, with what consent, and which adapters saw them.",
    "consent": "Who agreed to what: make the file for it, check it.",
    "verify": "Where a picture comes from: its signed manifest and its watermark.",
    "completion": "Completion of commands and settings for a shell: bash, zsh or fish.",
    "where": "The folders that come with the project: conf, assets, serving/config.yaml.",
}


def commands() -> dict[str, str]:
    """Names and what they do: the modules of this package, and what is not composed by Hydra."""
    files = sorted(path for path in _HERE.glob("[a-z]*.py") if path.stem != "pipelines")
    docs = {path.stem: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "" for path in files}
    order = (
        "preprocess",
        "train",
        "generate",
        "evaluate",
        "votes",
        "export",
        "push",
        "serve",
        "list",
        "check",
        "browse",
        "forget",
    )
    own = sorted(docs, key=lambda name: (order.index(name) if name in order else len(order), name))
    return {name: docs[name].split("\n")[0] for name in own} | OTHERS
