"""A base of another family than SDXL through everything: photos → dataset → adapter → portraits → HTTP."""

import base64
import dataclasses
import io
import json
import socket

import httpx
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support import preprocessing, training

from pm.config import from_mapping
from pm.data.config import PreprocessConfig
from pm.data.run.build import build
from pm.model.adapter_file import load_adapter
from pm.sample.config import GenerateConfig
from pm.sample.run import generate
from pm.toon.world import write_photos
from pm.train.run.launch import launch
from serving.compose import composed
from serving.config import ServeConfig

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def base(tiny_sd15) -> dict:
    return {"path": str(tiny_sd15), "vision_path": str(tiny_sd15 / "image_encoder"), "family": "auto"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos") / "raw"
    write_photos(folder, identities=4, photos_per_identity=3, seed=0, split="train", defects={}, progress=False)
    return folder


@pytest.fixture(scope="module")
def adapter(ray_session, base, photos, tmp_path_factory):
    """Preprocessed and trained: three steps of two workers."""
    data, runs = tmp_path_factory.mktemp("data") / "out", tmp_path_factory.mktemp("runs")
    plain = preprocessing.settings(base=base, output=str(data))
    source = plain["dataset"] | {"root": str(photos)}
    build(from_mapping(PreprocessConfig, plain | {"dataset": source}))
    columns = ["pooled", "time_ids", "text_embeds"]
    rows = [
        row for part in sorted(data.glob("part-*.parquet")) for row in pq.read_table(part, columns=columns).to_pylist()
    ]
    assert len(rows) == 12
    assert all(
        row["pooled"] == b"" and row["time_ids"] == [] and len(row["text_embeds"]) == 2 * 77 * 32 for row in rows
    )
    over = {"train__steps": 3, "train__batch_size": 4, "train__validate_every": 3, "train__max_references": 2}
    config = training.run_config(data, base["path"], workers__num=2, **over)
    return launch(config, runs / "tiny", {})


def test_trained_and_sampled(adapter, base, photos, tmp_path):
    _, meta = load_adapter(adapter)
    lines = [json.loads(line) for line in (adapter.parent / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3] and meta.extra["step"] == 3
    assert (adapter.parent / "validation" / "step-00000003.png").is_file()
    person = sorted(p for p in photos.iterdir() if p.is_dir())[0]
    values = composed("generate", ["sampler.steps=3", "images=2"])
    values |= {"adapter": str(adapter), "prompt": "a man img in a red shirt"}
    values |= {"base": base, "id_images": [str(person)], "output": str(tmp_path / "out")}
    folder = generate(from_mapping(GenerateConfig, values), progress=False)
    with Image.open(folder / "0001.png") as image:
        assert image.size == (32, 32) and image.getextrema() != ((0, 0),) * 3


def test_served(adapter, base, photos):
    from ray import serve

    from serving.run import start

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    values = composed("serve", ["sampler.steps=3", "engine.threads=1", "engines.num_cpus=0.5"])
    values |= {"base": base, "adapters": {"mine": str(adapter)}}
    config = from_mapping(ServeConfig, values)
    start(dataclasses.replace(config, http=dataclasses.replace(config.http, port=port, metrics_port=0)))
    try:
        files = [("image[]", (p.name, p.read_bytes(), "image/png")) for p in sorted(photos.rglob("*.png"))[:1]]
        form = {"prompt": "a man img in a red shirt", "seed": "1"}
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/images/edits", data=form, files=files, timeout=240)
        assert answer.status_code == 200, answer.text
        picture = Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))
        assert picture.size == (32, 32)
    finally:
        serve.shutdown()
