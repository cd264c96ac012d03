"""Adapter files, by what their headers say; no weights are read."""

import json
import struct
from typing import Any

from pm.catalog.root import Root

_HEADER = 64 * 2**20  # bytes; safetensors' own limit is 100 MB
_PREFIXES = ("id_encoder.", "lora_weights.")


def adapters(root: Root) -> list[dict[str, Any]]:
    """All adapters below a place, newest first: {"name", "bytes", "changed", "kind", "trigger", "base", "step"}."""
    found = []
    for entry in root.find(suffix=".safetensors"):
        header = _header(root, entry.name)
        said = header.get("__metadata__", {})
        if "base_fingerprint" not in said and not any(key.startswith(_PREFIXES) for key in header):
            continue  # a LoRA or a base
        extra = _object(said.get("extra", "{}"))
        about = {"kind": said.get("kind", "photomaker"), "trigger": said.get("trigger_word")}
        about |= {"base": said.get("base_fingerprint"), "step": extra.get("step")}
        found.append({"name": entry.name, "bytes": entry.size, "changed": entry.changed} | about)
    return sorted(found, key=lambda adapter: -adapter["changed"])


def _header(root: Root, name: str) -> dict[str, Any]:
    with root.open(name) as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        return _object(stream.read(length)) if 0 < length <= _HEADER else {}


def _object(text: str | bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
