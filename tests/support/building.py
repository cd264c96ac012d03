"""Datasets made in this process: the real stages one after the other, without Ray and without a base."""

import dataclasses
import hashlib
from pathlib import Path

import pyarrow.parquet as pq

import pm.data.run.build as build_module
import pm.data.run.graph as graph_module
from pm.config import from_mapping
from pm.data.config import PreprocessConfig
from pm.data.dataset.writer import write_shard
from pm.data.run.build import Report, build
from pm.data.run.steps import work_of
from pm.data.stages.stage import Place
from support.preprocessing import SIZES, settings


def bytes_of(*parts: object, length: int) -> bytes:
    """Bytes that depend on these things only."""
    return hashlib.sha256(repr(parts).encode()).digest() * (length // 32)


def features(photo):
    """In the place of the base's: what depends on the photo and its caption."""
    if photo.reject:
        return photo
    moments = {name: bytes_of(photo.photo, name, length=512) for name in ("vae_mean", "vae_logvar")}
    texts = {"text_embeds": bytes_of(photo.caption, length=7 * 10 * 2 // 32 * 32), "pooled": b""}
    return dataclasses.replace(photo, crop=b"", id_crop=photo.crop, time_ids=(64.0,) * 6, **moments, **texts)


def in_process(looked_at: list):
    """What takes the place of `run_graph`; notes the names of the photos."""

    def run(config, sizes, stages, shards, todo, done):
        names = [stage.name for stage in stages if stage.name != "precompute"]
        for shard in shards:
            looked_at.extend(photo.photo for photo in shard)
            for work in work_of(names[:-1], config, Place(sizes)):
                shard = work.function(shard)
            shard = [features(photo) for photo in shard]
            for work in work_of(names[-1:], config, Place(sizes)):
                shard = work.function(shard)
            write_shard(shard, config.output, {name: {"seconds": 1.0, "run": "one"} for name in names})

    return run


class Builder:
    """Builds datasets of one folder of photos; `looked_at` are those of the last build."""

    def __init__(self, root: Path, patch):
        self.root, self.looked_at = root, []
        patch.setattr(build_module, "base_sizes", lambda base: SIZES)
        patch.setattr(build_module, "write_preview", lambda output, root: Path(output, "preview.png").touch())
        patch.setattr(graph_module, "run_graph", in_process(self.looked_at))

    def config(self, output: Path, **changes) -> PreprocessConfig:
        source = {**settings()["dataset"], "root": str(self.root)} | changes.pop("dataset", {})
        plain = settings()
        workers = {**plain["workers"], "shard_photos": changes.pop("shard_photos", 128)}
        given = {"output": str(output), "dataset": source, "workers": workers, **changes}
        return from_mapping(PreprocessConfig, {**plain, **given})

    def __call__(self, output: Path, **changes) -> Report:
        self.looked_at.clear()
        return build(self.config(output, **changes))


def content(output: Path) -> dict:
    """All that a dataset says of its photos, wherever in its files: rows in the index's order, rejects, counts."""
    rows = []
    for entry in pq.read_table(output / "index.parquet").to_pylist():
        group = pq.ParquetFile(output / entry["file"]).read_row_group(entry["row_group"])
        rows.append({name: group.column(name)[entry["row"]].as_py() for name in group.schema.names})
    return {"rows": rows, "rejects": pq.read_table(output / "rejects.parquet").to_pylist()}
