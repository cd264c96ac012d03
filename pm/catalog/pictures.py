"""Pictures that were generated, by folder, as their own files tell."""

from collections import defaultdict
from pathlib import PurePosixPath
from typing import Any

from pm.catalog.root import Entry, Root
from pm.errors import PmError
from pm.sample.output_file import read_about

_LEAST = 3  # that are opened before a folder is taken for one of other pictures


def pictures(root: Root) -> list[dict[str, Any]]:
    """Folders of pictures that say how they were made, newest first.

    Returns:
        [{"name", "pictures": how many, "changed", "prompt", "seed"}]: the last two are the first picture's.
    """
    folders: dict[str, list[Entry]] = defaultdict(list)
    for suffix in (".png", ".jpeg", ".jpg", ".webp"):
        for entry in root.find(suffix=suffix):
            folders[PurePosixPath(entry.name).parent.as_posix()].append(entry)
    found: list[dict[str, Any]] = []
    for name, entries in folders.items():
        about = next((said for entry in entries[:_LEAST] if "prompt" in (said := _about(root, entry.name))), None)
        if about is not None:
            changed = max(entry.changed for entry in entries)
            shown = {"name": name, "pictures": len(entries), "changed": changed}
            found.append({**shown, "prompt": about.get("prompt"), "seed": about.get("seed")})
    return sorted(found, key=lambda folder: -folder["changed"])


def _about(root: Root, name: str) -> dict[str, str]:
    try:
        return read_about(root.read(name))
    except PmError:
        return {}
