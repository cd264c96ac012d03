"""Which classes a module defines and what they are derived from, read from its text: nothing is imported.

So a list of names costs no import of what the parts need, such as torch or DeepSpeed.
"""

import ast
import functools
import importlib.util
import sys
from pathlib import Path
from typing import NamedTuple


class Outline(NamedTuple):
    """Of a module."""

    bases: dict[str, list[str]]  # of each class, by its name
    imported: dict[str, tuple[str, str]]  # name → module and name there, of `from module import name`


def defines(module: str, kind: type) -> bool:
    """Whether a module, by its dotted name, defines a class that is derived from `kind` through names it imports.

    Raises:
        SyntaxError: the module cannot be read.
    """
    return any(_derives(module, base, kind, ()) for bases in outline(module).bases.values() for base in bases)


@functools.cache
def outline(module: str) -> Outline:
    """The top level of a module; of one without a text (built in, compiled) it is empty."""
    loaded = sys.modules.get(module)
    spec = loaded.__spec__ if loaded else importlib.util.find_spec(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return Outline({}, {})
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8"), spec.origin).body
    bases = {node.name: [_name(base) for base in node.bases] for node in body if isinstance(node, ast.ClassDef)}
    imports = [node for node in body if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return Outline(bases, {a.asname or a.name: (str(n.module), a.name) for n in imports for a in n.names})


def _derives(module: str, name: str, kind: type, seen: tuple[tuple[str, str], ...]) -> bool:
    """Whether `name`, as it is understood in a module, is `kind` or derived from it."""
    if (module, name) in seen:
        return False
    seen = (*seen, (module, name))
    if (module, name) == (kind.__module__, kind.__name__):
        return True
    found = outline(module)
    if name in found.bases:
        return any(_derives(module, base, kind, seen) for base in found.bases[name])
    return name in found.imported and _derives(*found.imported[name], kind, seen)


def _name(base: ast.expr) -> str:
    while isinstance(base, ast.Subscript):  # a generic class with its types
        base = base.value
    return base.id if isinstance(base, ast.Name) else ""
