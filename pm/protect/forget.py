"""Follow a person through everything below a folder, and remove them there; adapters that saw them are named."""

import html
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pyarrow.parquet as pq

from pm.data.dataset.forget import Removal, forget
from pm.data.records import REJECTS_FILE, SOURCES_FILE, read_meta
from pm.data.source.store import is_remote
from pm.data.source.tree import SIDECAR_SUFFIXES
from pm.errors import DataError, counted
from pm.photo.pixels import PHOTO_SUFFIXES
from pm.protect.people import saw
from pm.protect.places import Places

_TEXTS = (".json", ".jsonl", ".csv", ".md", ".yaml", ".html", ".txt")
_MOST_TEXT = 2**26  # bytes of a file that is looked into


@dataclass
class Forgotten:
    """What was done."""

    removals: dict[Path, Removal] = field(default_factory=dict)  # by dataset
    raw: list[Path] = field(default_factory=list)  # photos, and files beside them, that were deleted
    raw_left: list[str] = field(default_factory=list)  # where raw photos still are, and why
    deleted: list[Path] = field(default_factory=list)  # pages, pictures and states of evaluations, validation pictures
    mentions: list[Path] = field(default_factory=list)  # texts of evaluations that still have the name
    adapters: list[Path] = field(default_factory=list)  # that saw the person
    unknown: list[Path] = field(default_factory=list)  # adapters that do not say whom they saw

    def text(self) -> str:
        """The summary for the terminal."""
        lines = [removal.text(str(path)).split("\n")[0] for path, removal in self.removals.items()]
        if self.raw:
            lines.append(f"{counted(len(self.raw), 'raw file')} deleted: {_some(self.raw)}")
        lines += [f"raw photos are still there: {place}" for place in self.raw_left]
        if self.deleted:
            what = counted(len(self.deleted), "page, picture or state", "pages, pictures and states")
            lines.append(f"{what} that showed or described them deleted: {_some(self.deleted)}")
        if self.mentions:
            lines.append(f"the name is still in {_some(self.mentions)}: evaluate again to have them without")
        if self.adapters:
            lines.append(
                "adapters and runs that saw them keep what they learnt; train again without, and delete: "
                + ", ".join(map(str, self.adapters))
            )
        if self.unknown:
            lines.append(f"adapters that do not say whom they saw: {', '.join(map(str, self.unknown))}")
        if not (self.adapters or self.unknown):
            lines.append("no adapter saw them")
        return "\n".join(lines)


def forget_everywhere(who: str, places: Places, *, photos: bool = False) -> Forgotten:
    """Remove a person, or a photo by its sha256, from all these places.

    Args:
        who: the person's name, or the beginning of a photo's sha256 (12 digits or more).
        places: where to look.
        photos: delete the raw photos too, where they are files.

    Raises:
        DataError: nowhere is anybody of this name, or a dataset is in use or damaged.
    """
    if not who:
        raise DataError("nobody has an empty name; photos outside the folders of people go by their sha256")
    done = Forgotten()
    for dataset in places.datasets:
        raw = list(raw_files(dataset, who))
        try:
            done.removals[dataset] = forget(dataset, who)
        except DataError as error:
            if "has no person and no photo hash" not in str(error):
                raise
            continue
        _raw(dataset, raw, photos, done)
    for path, records in places.adapters.items():
        if records is None:
            done.unknown.append(path)
        elif saw(records, who):
            done.adapters.append(path)
            _validation(path, done)
    for page in places.pages:
        if page.exists() and _has(page, who):
            page.unlink()
            done.deleted.append(page)
    for folder in places.evaluations:
        _evaluation(folder, who, done)
    if not (done.removals or done.adapters or done.deleted or done.mentions):
        raise DataError(
            f"nobody is called {who!r} in {counted(len(places.datasets), 'dataset')}, "
            f"{counted(len(places.adapters), 'adapter or run', 'adapters and runs')} and "
            f"{counted(len(places.evaluations), 'evaluation')} there; photomaker audit lists the names"
        )
    return done


def raw_files(dataset: Path, who: str) -> Iterator[str]:
    """Names below the root of the files that a dataset has of a person, or of a photo and what lies beside it."""
    rows = []
    for path in (*sorted(dataset.glob("part-*.parquet")), dataset / REJECTS_FILE):
        names = [name for name in ("identity", "photo", "sha256") if name in pq.read_schema(path).names]
        rows += pq.read_table(path, columns=names).to_pylist()
    photos = {row["photo"] for row in rows if row["identity"] == who}
    if len(who) >= 12:
        photos |= {row["photo"] for row in rows if (row.get("sha256") or "").startswith(who.lower())}
    stems = {photo.rpartition(".")[0] for photo in photos}
    beside = set()
    if (dataset / SOURCES_FILE).exists():
        table = pq.read_table(dataset / SOURCES_FILE, columns=["name", "photo"]).to_pylist()
        beside = {row["name"] for row in table if not row["photo"] and row["name"].rpartition(".")[0] in stems}
    yield from sorted(photos | beside)


def _raw(dataset: Path, names: Sequence[str], delete: bool, done: Forgotten) -> None:
    root = str(read_meta(dataset).get("config", {}).get("dataset", {}).get("root") or "")
    if not root or not names:
        return
    there = [] if is_remote(root) else [path for name in names if (path := _below(root, name)) is not None]
    if delete:
        for path in there:
            path.unlink()
            done.raw.append(path)
        for folder in sorted({path.parent for path in there}, reverse=True):
            if folder != Path(root) and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        elsewhere = len(names) - len(there)
        if is_remote(root) or any(".tar/" in name for name in names):
            done.raw_left.append(f"{elsewhere} files in {root}, a bucket or tars: delete them there")
    elif there or is_remote(root):
        place = f"{len(there) or len(names)} files in {root} (photos=true deletes what is not in buckets or tars)"
        if place not in done.raw_left:
            done.raw_left.append(place)


def _below(root: str, name: str) -> Path | None:
    """The file, if it is one that a source reads: a dataset is not trusted to name others."""
    path, place = Path(root, name), PurePosixPath(name)
    known = place.suffix.lower() in PHOTO_SUFFIXES | SIDECAR_SUFFIXES and not place.is_absolute()
    return path if known and ".." not in place.parts and path.is_file() else None


def _validation(path: Path, done: Forgotten) -> None:
    """Pictures made during a training that saw the person: they may show them."""
    folder = (path if path.is_dir() else path.parent) / "validation"
    for picture in sorted(folder.glob("*.png")) if folder.is_dir() else ():
        picture.unlink()
        done.deleted.append(picture)


def _evaluation(folder: Path, who: str, done: Forgotten) -> None:
    before = len(done.deleted)
    for theirs in sorted((folder / "pictures").glob("*/*")):
        if theirs.name == who and theirs.is_dir():
            shutil.rmtree(theirs)
            done.deleted.append(theirs)
    if len(done.deleted) > before and (folder / "grid.png").exists():
        (folder / "grid.png").unlink()
        done.deleted.append(folder / "grid.png")
    for state in sorted(folder.glob("states/*/*")):
        if state.stem == who:
            state.unlink()
            done.deleted.append(state)
    for path in sorted(folder.glob("*")):
        if path.suffix not in _TEXTS or not path.is_file() or not _has(path, who):
            continue
        if path.suffix == ".html":  # with the pictures in it
            path.unlink()
            done.deleted.append(path)
        else:
            done.mentions.append(path)


def _has(path: Path, who: str) -> bool:
    if path.stat().st_size > _MOST_TEXT:
        return True  # better one page too many
    text = path.read_text(encoding="utf-8", errors="replace")
    names = "|".join(map(re.escape, {who, html.escape(who), json.dumps(who)[1:-1]}))
    return re.search(rf"(?<![\w-])(?:{names})(?![\w-])", text) is not None


def _some(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths[:5])) + (", ..." if len(paths) > 5 else "")
