"""The whole graph on real Ray: photos with planted defects → dataset."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from support.odd_files import ODD_FILES
from support.photos import found
from support.preprocessing import settings

import pm.data.run.graph as graph_module
from pm.config import from_mapping
from pm.data.config import PreprocessConfig, SamplesConfig
from pm.data.dataset.checkpoints import latest_checkpoint
from pm.data.dataset.reader import IdentityDataset
from pm.data.dataset.writer import finished_shards
from pm.data.records import from_table, to_table
from pm.data.run.build import build
from pm.data.run.steps import ORDER, stages_of, steps_of
from pm.data.stages.stage import Place
from pm.errors import DataError
from pm.model.base_sizes import base_sizes
from pm.toon.world import write_photos

DEFECTS = {"two_people": 0.15, "no_person": 0.1, "too_small": 0.1, "truncated": 0.1}
# What each defect must be rejected for. Of two people the larger face is taken here (verify=none): sometimes the wrong
# one, and then the mask, which is the right one's, does not cover it.
REASONS = {"no_person": "no_face", "too_small": "too_small", "truncated": "unreadable"}
ZOO = "zoo “o'Neil” 王_woman"  # the last identity: any file whatsoever
FOUND = 30 + len(ODD_FILES)


@pytest.fixture(scope="module")
def config(tiny_base, tmp_path_factory) -> PreprocessConfig:
    folder = tmp_path_factory.mktemp("preprocess")
    write_photos(
        folder / "raw",
        identities=10,
        photos_per_identity=3,
        seed=0,
        split="train",
        defects=DEFECTS,
        progress=False,
    )
    (folder / "raw" / ZOO).mkdir()
    for name, (write, _) in ODD_FILES.items():
        write(folder / "raw" / ZOO / name)
    base = {"path": str(tiny_base), "vision_path": str(tiny_base / "image_encoder")}
    plain = settings(base=base, output=str(folder / "out"))
    source = {"root": str(folder / "raw"), "max_pixels": 9_000_000, "max_bytes": 1_000_000}
    return from_mapping(PreprocessConfig, {**plain, "dataset": {**plain["dataset"], **source}})


DRIVER = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from pm.config import from_mapping
from pm.data.run.build import build
from pm.data.config import PreprocessConfig
build(from_mapping(PreprocessConfig, json.loads(sys.argv[2])))
"""


def wait_for(condition, seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


@pytest.fixture(scope="module")
def killed(config):
    """What each shard had come to when the driver of a first run was killed: number of its last stage, 99 at its end.

    It has a Ray of its own, as on a laptop.
    """
    mapping = json.dumps(dataclasses.asdict(config))
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, json.dumps(sys.path), mapping], env=env)
    work = Path(config.output, "_work")
    try:
        wait_for(lambda: len(list(work.glob("shard-*.json"))) >= 2 or driver.poll() is not None, 240, "no shard done")
    finally:
        driver.kill()
        driver.wait()
    assert driver.returncode == -signal.SIGKILL and not Path(config.output, "dataset.json").exists()
    last = {number: latest_checkpoint(work, number, ORDER) for number in range(11)}
    reached = {number: ORDER.index(stage) if stage else -1 for number, stage in last.items()}
    reached |= dict.fromkeys(finished_shards(config.output), 99)
    assert 2 <= sum(step == 99 for step in reached.values()) < 11
    return reached


class KillsAWorker(graph_module.Display):
    """At the second shard, kills the process that holds the base."""

    victims: list[int] = []

    def finished(self, note):
        super().finished(note)
        if not self.victims and self.found > note["found"]:
            for process in psutil.Process().children(recursive=True):  # of this Ray, and of no other
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "Precompute" in " ".join(process.cmdline()) and not self.victims:
                        self.victims.append(process.pid)
                        process.kill()


@pytest.fixture(scope="module")
def report(config, killed, ray_session):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_module, "Display", KillsAWorker)
        return build(config)


def test_a_killed_run_goes_on_and_a_killed_worker_stops_nothing(config, killed, report):
    assert KillsAWorker.victims and 0 < report.photos < FOUND
    assert not Path(config.output, "_work").exists()
    first, second = report.meta["runs"].values()
    for step in steps_of(stages_of(config)):
        sizes = [3] * 10 + [len(ODD_FILES)]
        done = sum(
            size for size, reached in zip(sizes, killed.values(), strict=True) if reached >= ORDER.index(step.after)
        )
        for stage in step.stages:
            # What was kept when the driver died was not done again, and all was done.
            assert first.get(stage, 0) >= done and first.get(stage, 0) + second.get(stage, 0) == FOUND


def test_every_planted_defect_is_rejected_for_its_reason_and_nothing_disappears(config, report):
    truth = json.loads(Path(config.dataset.root, "truth.json").read_text())
    kept = pq.read_table(Path(config.output, "index.parquet")).to_pylist()
    rejects = {r["photo"]: r for r in pq.read_table(Path(config.output, "rejects.parquet")).to_pylist()}
    assert len(kept) + len(rejects) == report.meta["counts"]["found"] == FOUND
    assert {d for d in truth.values()} == set(DEFECTS)
    for photo, defect in truth.items():
        if defect in REASONS:
            assert rejects[photo]["reason"] == REASONS[defect], photo
    for name, (_, reason) in ODD_FILES.items():  # good photos among them have no annotations
        assert rejects[f"{ZOO}/{name}"]["reason"] == (reason or "no_sidecar")
    for photo, reject in rejects.items():
        if reject["identity"] == ZOO:
            continue
        wrong_face = truth.get(photo) == "two_people" and reject["reason"] == "mask_misses_face"
        assert wrong_face or truth.get(photo) in REASONS or reject["reason"] == "too_few_photos"
    counts = report.meta["counts"]["stages"]
    assert counts["ingest"]["in"] == FOUND and counts["identities"]["kept"] == len(kept) > 12
    assert Path(config.output, "preview.png").stat().st_size > 10_000


def test_the_graph_gives_what_its_stages_give_one_after_the_other(config, report):
    root, sizes = Path(config.dataset.root), base_sizes(config.base)
    photos = found(root)
    for stage in stages_of(config):
        for work in stage.build(Place(sizes)):
            photos = from_table(to_table(work.function(photos)))
    kept = [p for p in photos if not p.reject]
    data = IdentityDataset(config.output, SamplesConfig(1, 4, 0.1, 0.5), base_fingerprint=sizes.fingerprint)
    assert data.photos == [p.photo for p in kept]
    for number, photo in enumerate(kept):
        row = data.row(number)
        for name in ("identity", "sha256", "caption", "class_word", "class_index", "mask", "id_crop"):
            assert row[name] == getattr(photo, name)
        assert tuple(row["time_ids"]) == photo.time_ids and tuple(row["face_box"]) == photo.face.box
        assert len(row["vae_mean"]) == len(photo.vae_mean) == 4 * 8 * 8 * 2


def test_running_again_says_complete_and_other_photos_are_refused(config, report):
    again = build(config)
    assert again.complete_before and again.meta == report.meta
    assert "dataset is complete" in again.text(config.output)
    source = dataclasses.replace(config.dataset, root=str(Path(config.dataset.root, "..", "other")))
    write_photos(source.root, identities=2, photos_per_identity=2, seed=1, split="train", progress=False)
    with pytest.raises(DataError, match=r"made of other photos than there are now.*overwrite=true"):
        build(dataclasses.replace(config, dataset=source))


def test_the_same_command_with_another_threshold_makes_the_dataset_anew_in_its_place(config, report):
    before = pq.read_table(Path(config.output, "index.parquet")).to_pylist()
    loose = build(dataclasses.replace(config, mask=dataclasses.replace(config.mask, min_overlap=0.01)))
    after = pq.read_table(Path(config.output, "index.parquet")).to_pylist()
    assert loose.photos == FOUND and len(after) >= len(before)
    assert {row["file"] for row in before}.isdisjoint(row["file"] for row in after)
    parts = {path.name for path in Path(config.output).glob("part-*.parquet")}
    assert parts == {row["file"] for row in after} and not Path(config.output, "_redo").exists()
