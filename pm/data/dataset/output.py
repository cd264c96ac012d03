"""The output folder: whose it is, and what has to be done in it for the settings asked for.

An unfinished dataset is resumed. Where settings have changed, it resumes from the last stage that they do not affect. A
finished one is made again in `_redo/` inside its folder, and stays until the new one is complete.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pm import files
from pm.data.dataset.checkpoints import checkpoints
from pm.data.dataset.settings import Change, changes
from pm.data.dataset.swap import settle, write_plan
from pm.data.dataset.writer import SETTINGS_FILE, WORK, is_our_name, write_index
from pm.data.records import EDITS_FILE, FORGET, INDEX_FILE, META_FILE, REDO, read_meta
from pm.errors import DataError
from pm.files import write_json, writing


@dataclass(frozen=True)
class Opened:
    """What has to be done."""

    folder: Path  # where the shards are written: the output, or `_redo` in it
    complete: bool  # nothing
    note: str = ""  # what other settings mean here, a line for the user


def prepare_output(
    output: str | Path,
    settings: Mapping[str, Any],
    order: Sequence[str],
    owners: Mapping[str, str],
    overwrite: bool,
) -> Opened:
    """Make the folder ready for these settings.

    Args:
        output: the dataset's folder, locked by the caller.
        settings: what the dataset is to be made with.
        order: names of the stages.
        owners: for each group of settings the first stage whose verdicts depend on it.
        overwrite: begin anew, whatever is there.

    Raises:
        DataError: the folder holds something else, or a dataset that cannot become the one asked for.
    """
    output = Path(output)
    if not overwrite:
        settle(output)
    found = None if overwrite else settings_there(output)
    different = [] if found is None else changes(found, settings)
    if not different:
        complete = open_output(output, settings, overwrite)
        shutil.rmtree(output / REDO, ignore_errors=True)
        return Opened(output, complete)
    finished = (output / META_FILE).exists()
    _require_changeable(output, different, owners, finished)
    first = min((owners.get(change.group, order[0]) for change in different), key=order.index)
    said = ", ".join(
        "other photos"
        if change.name == "photos"
        else f"{change.setting}={_shown(change.after)}, was {_shown(change.before)}"
        for change in different[:6]
    )
    if finished:
        begun = changes(settings_there(output / REDO) or settings, settings)
        if begun and ((output / REDO / META_FILE).exists() or any(c.name in ("photos", "state") for c in begun)):
            shutil.rmtree(output / REDO)  # for settings or photos that nobody asks for any more
        opened = prepare_output(output / REDO, settings, order, owners, overwrite=False)
        note = f"{output} is made again with {said}; the present one stays until the new one is complete"
        return Opened(opened.folder, opened.complete, note)
    _go_back(output, settings, order[order.index(first) :])
    return Opened(output, False, f"{output} resumes with {said}: from the stage {first} on, photos are judged again")


def put_in_place(output: str | Path) -> None:
    """A dataset that was finished in `_redo` takes the place of the old one, all at once; killed, it is resumed."""
    output = Path(output)
    new, old = output / REDO, sorted(output.glob("part-*.parquet"))
    generation = 1 + max((int(found[1]) for path in old if (found := re.search(r"-r(\d+)\.", path.name))), default=0)
    for part in new.glob("part-*.parquet"):  # under no name that the old index knows
        part.rename(new / f"{part.stem.split('-r')[0]}-r{generation}.parquet")
    write_index(sorted(new.glob("part-*.parquet")), new / INDEX_FILE)
    shutil.rmtree(output / FORGET, ignore_errors=True)
    write_plan(new, [path.name for path in old])
    new.rename(output / FORGET)  # the moment it is decided
    settle(output)


def open_output(output: str | Path, settings: Mapping[str, Any], overwrite: bool) -> bool:
    """Make the folder ready for a dataset with exactly these settings; True if it already holds the finished dataset.

    Raises:
        DataError: it holds a dataset made with other settings (named in the message), or something else.
    """
    output = Path(output)
    if overwrite:
        _clear(output)
    different = changes(settings_there(output) or settings, settings)
    if different:
        raise _refused(output, different, "")
    if (output / META_FILE).exists():
        shutil.rmtree(output / WORK, ignore_errors=True)
        return True
    started = output / WORK / SETTINGS_FILE
    if started.exists():
        return False
    strange = (
        sorted(p.name for p in output.iterdir() if not _is_ours(p) and p.name != EDITS_FILE) if output.is_dir() else []
    )
    if strange or (output.exists() and not output.is_dir()):
        raise DataError(
            f"output={output.absolute()} holds other files ({', '.join(strange[:3]) or 'it is one'}); "
            "choose another folder"
        )
    (output / WORK).mkdir(parents=True, exist_ok=True)
    write_json(started, settings, indent=1)
    return False


def locked(output: str | Path) -> contextlib.AbstractContextManager[None]:
    """Hold the folder's lock, so that nobody else changes it; it ends with the process. Makes the folder if need be.

    Raises:
        LockedError: somebody else is working on it.
        WriteError: it cannot be made.
    """
    with writing(output, "output="):
        Path(output).mkdir(parents=True, exist_ok=True)
    return files.locked(output, f"output={os.path.abspath(output)}")


def settings_there(output: Path) -> dict[str, Any] | None:
    """What the dataset in the folder, finished or not, was made with; None: there is none."""
    if (output / META_FILE).exists():
        return read_meta(output)["settings"]
    started = output / WORK / SETTINGS_FILE
    return json.loads(started.read_text()) if started.exists() else None


def _require_changeable(output: Path, different: Sequence[Change], owners: Mapping[str, str], finished: bool) -> None:
    other = [
        change for change in different if change.group not in owners and not (finished and change.name == "photos")
    ]
    if any(change.name == "photos" for change in other):
        raise DataError(
            f"output={output.absolute()} is unfinished, and made of other photos than there are now (some came, "
            "went or changed); use overwrite=true to begin anew with these, or put the others back to finish it first"
        )
    if other:
        raise _refused(output, other, " and cannot be changed to others")


def _refused(output: Path, different: Sequence[Change], why: str) -> DataError:
    what = "holds a dataset" if (output / META_FILE).exists() else "holds an unfinished dataset"
    said = ", ".join(map(str, different[:6]))
    return DataError(
        f"output={output.absolute()} {what} made with other settings{why} ({said}); "
        "use overwrite=true to replace it, or another output folder"
    )


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _go_back(output: Path, settings: Mapping[str, Any], stages: Sequence[str]) -> None:
    """Forget what these stages, the last ones, have done in an unfinished dataset; finished shards are done again."""
    work = output / WORK
    for path in (*work.glob("shard-*.json"), *work.glob("rejects-*.parquet"), *output.glob("part-*.parquet")):
        path.unlink()
    for path, stage in checkpoints(work):
        if stage in stages:
            path.unlink()
    write_json(work / SETTINGS_FILE, settings, indent=1)


def _clear(output: Path) -> None:
    """Remove a dataset's own files and nothing else."""
    for path in output.iterdir() if output.is_dir() else ():
        if _is_ours(path):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_ours(path: Path) -> bool:
    return is_our_name(files.target_name(path.name) or path.name)
