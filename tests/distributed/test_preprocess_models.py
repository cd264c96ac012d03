"""The graph with every stage that holds a model of its own: Mask2Former, BLIP-2, the base with its vision tower."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.preprocessing import settings
from support.tiny_models import write_blip2, write_mask2former

from pm.config import from_mapping
from pm.data.config import BrowseConfig, PreprocessConfig
from pm.data.dataset.browse import write_page
from pm.data.dataset.forget import forget
from pm.data.dataset.output import open_output
from pm.data.run.build import build
from pm.data.run.steps import stages_of, steps_of
from pm.toon.world import write_photos


@pytest.fixture(scope="module")
def config(tiny_base, tmp_path_factory) -> PreprocessConfig:
    folder = tmp_path_factory.mktemp("models")
    write_photos(folder / "raw", identities=3, photos_per_identity=3, seed=0, split="train", progress=False)
    base = {"path": str(tiny_base), "vision_path": str(tiny_base / "image_encoder")}
    plain = settings(base=base, output=str(folder / "out"), min_photos=1)
    mask = {"name": "mask2former", "label": "person", "threshold": 0.0, "min_overlap": 0.01}
    mask |= {"path": str(write_mask2former(folder / "mask2former", {0: "tree", 1: "person"}))}
    caption = {"name": "blip2", "prompt": "a photo of", "attempts": 40, "max_tokens": 4, "temperature": 1.0}
    caption |= {"path": str(write_blip2(folder / "blip2"))}
    changes = {
        "dataset": {**plain["dataset"], "root": str(folder / "raw"), "licence": "free"},
        "mask": plain["mask"] | mask,
        "caption": caption,
        "features": {"storage": "bfloat16", "face_embeddings": False, "repeat": 2, "noise_fills": 2, "train_layers": 1},
    }
    return from_mapping(PreprocessConfig, {**plain, **changes})


def test_models_run_in_actors_of_their_own_and_every_row_is_whole(config, ray_session):
    assert [step.name for step in steps_of(stages_of(config)) if step.pool] == ["masks", "captions", "precompute"]
    meta = build(config).meta
    rows = [
        row for path in sorted(Path(config.output).glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()
    ]
    rejects = pq.read_table(Path(config.output, "rejects.parquet")).to_pylist()
    assert len(rows) + len(rejects) == 9 and len(rows) >= 3
    assert {r["reason"] for r in rejects} <= {"no_mask", "mask_misses_face", "no_class_word"}
    for row in rows:
        assert row["class_word"] in row["caption"] and row["caption"].startswith("a photo of ")
        assert row["class_rule"] in ("group", "only", "first", "scored")
        assert len(row["repeat_embeds"]) == 2 * len(row["text_embeds"]) > 0 and row["tower"]
    assert {(r["licence"], bool(r["source"]), len(r["sha256"])) for r in [*rows, *rejects]} == {("free", True, 64)}
    assert meta["origins"]["licences"] == {"free": len(rows)} and meta["features"]["storage"] == "bfloat16"
    page = {"output": None, "photos": None, "people": (), "identities": 9, "photos_per_identity": 9, "rejects": 9}
    shown = write_page(BrowseConfig(dataset=config.output, side=32, **page)).read_text()
    assert all(row["photo"] in shown for row in [*rows, *rejects])
    # Somebody who was removed does not come back because the same command is run again.
    forget(config.output, rows[0]["identity"])
    assert open_output(config.output, json.loads(Path(config.output, "dataset.json").read_text())["settings"], False)
    assert build(config).complete_before
    assert rows[0]["identity"] not in Path(config.output, "index.parquet").read_bytes().decode("latin-1")
