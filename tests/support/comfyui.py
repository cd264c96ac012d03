"""ComfyUI's way with a package of nodes: imported by its path, and called by what it declares."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "integrations/comfyui"


def load_nodes() -> ModuleType:
    """The package, as ComfyUI's `load_custom_node` imports it: under a name that is no identifier."""
    name = str(FOLDER).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(
        name, FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run_node(package: ModuleType, name: str, **inputs: Any) -> tuple:
    """Make a node and call its function with defaults where an input is not given, as ComfyUI's executor does."""
    node = package.NODE_CLASS_MAPPINGS[name]
    declared = node.INPUT_TYPES()
    values = {}
    for key, (kind, *options) in {**declared["required"], **declared.get("optional", {})}.items():
        if isinstance(kind, list):
            values[key] = kind[0]
        elif options and "default" in options[0]:
            values[key] = options[0]["default"]
    unknown = inputs.keys() - declared["required"].keys() - declared.get("optional", {}).keys()
    assert not unknown, unknown
    result = getattr(node(), node.FUNCTION)(**values | inputs)
    assert isinstance(result, tuple) and len(result) == len(node.RETURN_TYPES)
    return result
