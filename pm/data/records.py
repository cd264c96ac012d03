"""What the stages pass on (`Photo`) and what the dataset on disk looks like (Arrow schemas)."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pm.errors import DataError
from pm.photo.types import Face, Refusal

SCHEMA_VERSION = 2  # 2 added columns, features in bfloat16 and the noted removals
READABLE_VERSIONS = (1, 2)
META_FILE, INDEX_FILE, REJECTS_FILE = "dataset.json", "index.parquet", "rejects.parquet"
SOURCES_FILE = "sources.parquet"  # the files that it was made of: `pm.data.source.listing`
EDITS_FILE = "edits.yaml"  # corrections by hand: `pm.data.edits`
FORGET, PLAN = "_forget", "plan.json"  # where changed files are made, and what is decided: `pm.data.dataset.swap`
REDO = "_redo"  # where a dataset is made again with other settings

PIXELS_AND_FEATURES = ("id_crop", "vae_mean", "vae_logvar", "text_embeds", "pooled") + (
    "repeat_embeds",
    "repeat_pooled",
    "tower",
)


@dataclass(frozen=True)
class Reject:
    """Why a photo was dropped: `value` was measured, `threshold` asked for; None where there is nothing to measure."""

    stage: str
    reason: str
    value: float | None
    threshold: float | None
    detail: str = ""  # what words can add: the error, the other photo of a pair


@dataclass(frozen=True)
class Photo:
    """One photo on its way through the stages; fields are filled stage by stage.

    A rejected photo keeps what it had and passes the later stages untouched, so nothing disappears.
    """

    identity: str
    photo: str  # path relative to the root, with forward slashes
    shard: int = 0  # number of the output file
    source: str = ""  # where the photo came from: a path, a URL, an archive and its member
    licence: str = ""  # if known
    expected_sha256: str = ""  # as a manifest of URLs says; "": not given
    sha256: str = ""
    width: int = 0
    height: int = 0
    faces: tuple[Face, ...] = ()  # exactly one after the verify stage
    crop_box: tuple[float, ...] = ()  # x0, y0, x1, y1, a square of whole pixels
    crop: bytes = b""  # PNG RGB, the crop at working size; not written to the dataset
    mask: bytes = b""  # PNG L of the crop at working size, then at the dataset's resolution
    caption: str = ""
    class_word: str = ""
    class_rule: str = ""  # how the class word was chosen, see `pm.data.stages.captions`
    class_index: int = 0
    # Said by hand (`photomaker edit`).
    keep: bool = False  # whatever a stage thinks that only judges
    hand_caption: str = ""
    hand_word: str = ""  # class word
    id_crop: bytes = b""  # PNG RGB at the vision tower's input size
    # Features, in the dataset's storage type; what was not asked for is empty.
    vae_mean: bytes = b""  # [C, h, w]
    vae_logvar: bytes = b""  # [C, h, w]
    text_embeds: bytes = b""  # [L, D]
    pooled: bytes = b""  # [P]
    repeat_embeds: bytes = b""  # [R, L, D], with the class word repeated 1 ... R times
    repeat_pooled: bytes = b""  # [R, P]
    tower: bytes = b""  # [K, T, H], after the vision tower's frozen lower layers, on K noise fills
    time_ids: tuple[float, ...] = ()
    face_embedding: tuple[float, ...] = ()  # of the face, where the dataset is to have it
    reject: Reject | None = None

    @property
    def face(self) -> Face:
        return self.faces[0]

    def rejected(
        self, stage: str, reason: str, value: float | None = None, threshold: float | None = None, detail: str = ""
    ) -> "Photo":
        """This photo, dropped. Pixels and features go: nobody will read them."""
        measured, asked = (None if v is None else float(v) for v in (value, threshold))
        empty: dict[str, Any] = {name: b"" for name in ("crop", "mask", *PIXELS_AND_FEATURES)} | {"face_embedding": ()}
        return dataclasses.replace(self, reject=Reject(stage, reason, measured, asked, detail[:200]), **empty)


def refused(photo: Photo, refusal: Refusal) -> Photo:
    """This photo, dropped for what `pm.photo` says."""
    return photo.rejected(refusal.stage, refusal.reason, refusal.value, refusal.threshold)


def each_kept(photos: Iterable[Photo], function: Callable[[Photo], Photo]) -> list[Photo]:
    """Apply `function` to every photo that is still in; the order stays."""
    return [photo if photo.reject else function(photo) for photo in photos]


def groups(photos: Sequence[Photo]) -> dict[str, list[Photo]]:
    """Photos that are still in, by identity."""
    found: dict[str, list[Photo]] = {}
    for photo in photos:
        if not photo.reject:
            found.setdefault(photo.identity, []).append(photo)
    return found


_FLOATS = pa.list_(pa.float32())
_FACE = pa.struct([("box", _FLOATS), ("landmarks", _FLOATS), ("score", pa.float32()), ("embedding", _FLOATS)])
_REJECT = pa.struct(
    [("stage", pa.string()), ("reason", pa.string()), ("value", pa.float64()), ("threshold", pa.float64())]
    + [("detail", pa.string())]
)
_ORIGIN = [(name, pa.string()) for name in ("source", "licence", "sha256")]
_FEATURES = [(name, pa.binary()) for name in PIXELS_AND_FEATURES]
_CAPTION = [("caption", pa.string()), ("class_word", pa.string()), ("class_rule", pa.string())]
FLIGHT_SCHEMA = pa.schema(
    [("identity", pa.string()), ("photo", pa.string()), ("shard", pa.int32())]
    + [*_ORIGIN, ("expected_sha256", pa.string())]
    + [("width", pa.int32()), ("height", pa.int32()), ("faces", pa.list_(_FACE))]
    + [("crop_box", _FLOATS), ("crop", pa.binary()), ("mask", pa.binary())]
    + [*_CAPTION, ("class_index", pa.int32()), *_FEATURES, ("time_ids", _FLOATS), ("face_embedding", _FLOATS)]
    + [("keep", pa.bool_()), ("hand_caption", pa.string()), ("hand_word", pa.string()), ("reject", _REJECT)]
)
DATASET_SCHEMA = pa.schema(
    [("identity", pa.string()), ("photo", pa.string()), *_ORIGIN, *_CAPTION, ("class_index", pa.int32())]
    + [("face_box", pa.list_(pa.float32(), 4)), ("landmarks", _FLOATS), ("crop_box", pa.list_(pa.float32(), 4))]
    + [("mask", pa.binary()), *_FEATURES, ("time_ids", _FLOATS), ("face_embedding", _FLOATS)]
)
INDEX_SCHEMA = pa.schema(
    [("identity", pa.string()), ("photo", pa.string()), ("file", pa.string())]
    + [("row_group", pa.int32()), ("row", pa.int32())]
)
REJECTS_SCHEMA = pa.schema(
    [("identity", pa.string()), ("photo", pa.string()), ("stage", pa.string()), ("reason", pa.string())]
    + [("value", pa.float64()), ("threshold", pa.float64()), ("detail", pa.string()), *_ORIGIN]
)


def to_table(photos: Sequence[Photo]) -> pa.Table:
    """Photos in flight as one Arrow table (`FLIGHT_SCHEMA`)."""
    return pa.Table.from_pylist([dataclasses.asdict(photo) for photo in photos], schema=FLIGHT_SCHEMA)


def from_table(table: pa.Table) -> list[Photo]:
    """The inverse of `to_table`."""
    return [_photo(row) for row in table.to_pylist()]


def _photo(row: dict[str, Any]) -> Photo:
    faces = tuple(Face(tuple(f["box"]), tuple(f["landmarks"]), f["score"], tuple(f["embedding"])) for f in row["faces"])
    reject = Reject(**row["reject"]) if row["reject"] else None
    lists = {name: tuple(row.get(name) or ()) for name in ("crop_box", "time_ids", "face_embedding")}
    by_hand = {"keep": bool(row["keep"])} | {name: row[name] or "" for name in ("hand_caption", "hand_word")}
    return Photo(**{**row, **lists, **by_hand, "faces": faces, "reject": reject})


def dataset_table(photos: Sequence[Photo]) -> pa.Table:
    """The photos that were kept, as rows of the dataset."""
    rows = []
    for photo in photos:
        row = {name: getattr(photo, name) for name in DATASET_SCHEMA.names if hasattr(photo, name)}
        rows.append({**row, "face_box": photo.face.box, "landmarks": photo.face.landmarks})
    return pa.Table.from_pylist(rows, schema=DATASET_SCHEMA)


def rejects_table(photos: Sequence[Photo]) -> pa.Table:
    """The photos that were dropped, one row each."""
    names = ("identity", "photo", "source", "licence", "sha256")
    rows = [{**{name: getattr(p, name) for name in names}, **dataclasses.asdict(p.reject)} for p in photos if p.reject]
    return pa.Table.from_pylist(rows, schema=REJECTS_SCHEMA)


def require_dataset(path: str | Path) -> None:
    """Say that a folder is missing before anything slow is started for it.

    Raises:
        DataError: there is no such folder.
    """
    if not Path(path).is_dir():
        raise DataError(
            f"dataset {Path(path).absolute()} does not exist; make it with photomaker preprocess "
            f"output={Path(path).absolute()}, or give another folder"
        )


def read_meta(path: str | Path, *, removing: bool = False) -> dict[str, Any]:
    """`dataset.json` of a finished dataset.

    Raises:
        DataError: there is none, it is damaged, another version of the format wrote it, or a removal was interrupted
            (unless `removing`).
    """
    file = Path(path) / META_FILE
    if not removing and Path(path, FORGET, PLAN).exists():
        raise DataError(
            f"a change of {Path(path).absolute()} was interrupted; run it again to finish it: photomaker preprocess or "
            "photomaker forget, as it was called before"
        )
    try:
        meta = json.loads(file.read_text())
    except FileNotFoundError:
        raise DataError(
            f"no dataset at {Path(path).absolute()} ({META_FILE} is missing); make one with photomaker preprocess "
            f"output={Path(path).absolute()}, "
            "which also finishes an interrupted one"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file.absolute()} cannot be read ({error}); preprocess again with overwrite=true") from error
    version = meta.get("schema_version")
    if version not in READABLE_VERSIONS:
        raise DataError(
            f"{Path(path).absolute()} has dataset format {version}, "
            f"this version reads {', '.join(map(str, READABLE_VERSIONS))}; "
            "preprocess again with overwrite=true"
        )
    return meta
