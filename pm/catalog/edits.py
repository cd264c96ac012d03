"""Corrections of a dataset by hand, by the code of `photomaker edit`; the one part that writes."""

from collections.abc import Mapping
from typing import Any

from pm.catalog.root import Root
from pm.data.edits import change
from pm.data.edits.file import read_edits
from pm.errors import DataError


def edits(root: Root, name: str) -> dict[str, Any]:
    """{"applied", "pending": edits in their order, "folder": where the dataset is}.

    Raises:
        DataError: it is not on this machine, or leads out of the root.
    """
    folder = _folder(root, name)
    found = read_edits(folder)
    return {"applied": list(found.applied), "pending": list(found.pending), "folder": folder}


def propose(root: Root, name: str, edit: Mapping[str, Any]) -> dict[str, Any]:
    """Add an edit to those that wait; returns all, as `edits`.

    Raises:
        DataError: as `pm.data.edits.change.propose`.
    """
    change.propose(_folder(root, name), edit)
    return edits(root, name)


def undo(root: Root, name: str, number: int) -> dict[str, Any]:
    """Take back the last ones that wait; returns all, as `edits`.

    Raises:
        DataError: not so many wait.
    """
    change.undo(_folder(root, name), number)
    return edits(root, name)


def _folder(root: Root, name: str) -> str:
    if not root.local:
        raise DataError(f"{root.place} is not on this machine; edit a copy that is")
    return root.within(name)
