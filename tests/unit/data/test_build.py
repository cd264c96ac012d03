"""What `build` says before and after the graph; the graph itself runs in tests/distributed."""

import errno

import pytest
from support.preprocessing import settings

import pm.data.run.build as build_module
from pm.config import from_mapping
from pm.data.config import PreprocessConfig
from pm.data.dataset.writer import write_shard
from pm.data.run.build import build
from pm.data.run.shards import plan_shards
from pm.errors import CheckpointError, DataError


@pytest.fixture
def make(root, tiny_base, tmp_path, monkeypatch):
    """Build with changed settings; a graph that rejects every photo stands in for the real one."""

    def reject_all(config, sizes, stages, listing, **_):
        for shard in plan_shards(listing.photos(), 4):
            write_shard([photo.rejected("faces", "no_face", 0, 1) for photo in shard], config.output)
        return listing.found

    monkeypatch.setattr(build_module, "_run", reject_all)
    base = {"path": str(tiny_base), "vision_path": str(tiny_base / "image_encoder")}

    def run(**changes):
        source = {**settings()["dataset"], "root": str(root)} | changes.pop("dataset", {})
        given = {"base": base, "output": str(tmp_path / "out"), "dataset": source} | changes
        return build(from_mapping(PreprocessConfig, settings(**given)))

    return run


def test_when_all_photos_are_rejected_the_reasons_are_said_every_time(make, tmp_path):
    for _ in range(2):
        with pytest.raises(DataError, match=r"all 12 photos of .* were rejected \(no_face 12\).*continues"):
            make()
    assert (tmp_path / "out" / "rejects.parquet").exists() and (tmp_path / "out" / "preview.png").exists()


def test_what_is_missing_is_said_before_anything_is_written(make, tmp_path):
    with pytest.raises(DataError, match="is not a folder that can be read"):
        make(dataset={"root": str(tmp_path / "nowhere")})
    with pytest.raises(CheckpointError, match="no toon probe at"):
        make(embedder={"name": "probe", "min_spread": 0, "max_distance": 1, "path": str(tmp_path / "nowhere")})
    with pytest.raises(CheckpointError):
        make(base={"path": str(tmp_path / "nowhere"), "vision_path": ""})
    assert not (tmp_path / "out").exists()


def test_toon_photos_are_drawn_once_where_there_are_none(make, tmp_path):
    source = {"name": "toon", "defects": None, "occlusion": 0, "omit": 0}
    source |= {"root": str(tmp_path / "drawn"), "identities": 2, "photos_per_identity": 2, "seed": 1, "split": "train"}
    written = []
    for _ in range(2):
        with pytest.raises(DataError, match="all 4 photos"):
            make(dataset=source)
        written.append({p: p.stat().st_mtime_ns for p in (tmp_path / "drawn").rglob("*.png")})
    assert len(written[0]) == 4 and written[0] == written[1]
    with pytest.raises(DataError, match=r"drawn with defects=\{\}, asked for is .*another dataset.root"):
        make(dataset={**source, "defects": {"truncated": 1.0}})


def test_what_stops_it_says_that_the_same_command_goes_on(make, monkeypatch, tmp_path):
    def full(config, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")  # of a library; ours come as WriteError

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(build_module, "_run", full)
    with pytest.raises(DataError, match=r"out cannot be written, the disk is full .*; then the same command resumes"):
        make()
    monkeypatch.setattr(build_module, "_run", interrupted)
    with pytest.raises(KeyboardInterrupt, match="the same command resumes"):
        make()
