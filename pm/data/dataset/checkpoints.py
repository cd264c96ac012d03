"""What an unfinished dataset keeps of each shard: the photos as the last finished step left them.

`_work/shard-00003-faces.parquet` is shard 3 after the stage `faces`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pm.data.records import FLIGHT_SCHEMA
from pm.files import replace_file

_STATS = b"stages"


def latest_checkpoint(work: Path, shard: int, order: Sequence[str]) -> str:
    """The last stage whose result for the shard is kept; "": none.

    Args:
        work: the dataset's `_work`.
        shard: its number.
        order: names of the dataset's stages.
    """
    there = {stage for _, stage in checkpoints(work, shard)}
    return next((stage for stage in reversed(order) if stage in there), "")


def checkpoints(work: Path, shard: int | None = None) -> list[tuple[Path, str]]:
    """The files with their stages, of one shard or of all."""
    number = "[0-9]*" if shard is None else f"{shard:05d}"
    return [(path, path.stem.split("-", 2)[2]) for path in work.glob(f"shard-{number}-*.parquet")]


def save_checkpoint(table: pa.Table, work: Path, shard: int, stage: str, stats: Mapping[str, Any]) -> None:
    """Keep a shard as it is after a stage, with what is known about the stages' work."""
    noted = table.replace_schema_metadata({_STATS: json.dumps(stats).encode()})
    with replace_file(_path(work, shard, stage)) as temporary:
        pq.write_table(noted, temporary, compression="none", use_dictionary=False, write_statistics=False)


def load_checkpoint(work: Path, shard: int, stage: str) -> pa.Table:
    """What `save_checkpoint` kept."""
    table = pq.read_table(_path(work, shard, stage)).replace_schema_metadata(None)
    for column in FLIGHT_SCHEMA:  # those that an earlier version did not have
        if column.name not in table.schema.names:
            table = table.append_column(column, pa.nulls(table.num_rows, column.type))
    return table.select(FLIGHT_SCHEMA.names).cast(FLIGHT_SCHEMA)


def checkpoint_stats(work: Path, shard: int, stage: str) -> dict[str, dict[str, Any]]:
    """What the steps before noted about their stages; nothing for the stage ""."""
    if not stage:
        return {}
    return json.loads((pq.read_schema(_path(work, shard, stage)).metadata or {}).get(_STATS, b"{}"))


def _path(work: Path, shard: int, stage: str) -> Path:
    return work / f"shard-{shard:05d}-{stage}.parquet"
