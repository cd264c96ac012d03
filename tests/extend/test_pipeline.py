"""Parts of somebody else through the real commands, on real Ray: what they made is what came out.

One dataset, one training, one portrait and one served image, each with all the parts that concern it.
"""

import asyncio
import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from pm.photo.crop import face_in_crop
from pm.photo.pixels import read_photo
from pm.sample.request import Request
from serving.config import load
from serving.engine.core import Engine
from serving.http.schema import jobs, parse
from serving.jobs import Photo
from serving.metrics import MemoryRecorder

HERE = Path(__file__).parent
MODULES = "modules=[my_parts.pairs,my_parts.passport,my_parts.oval]"  # what the adapter's file names
SPACINGS = ("leading", "trailing")
PROMPT = "a woman img in a red hat"


@pytest.fixture(scope="module")
def base(tiny_sd15) -> list[str]:
    """Settings of a base whose family is somebody else's."""
    return ["base=clip_skip", f"base.path={tiny_sd15}", f"base.vision_path={tiny_sd15 / 'image_encoder'}"]


@pytest.fixture(scope="module")
def dataset(photomaker, photos, base, tmp_path_factory):
    output = tmp_path_factory.mktemp("extend") / "dataset"
    parts = ["dataset=albums", "face=passport", "mask=oval", "caption=filename"]
    others = ["embedder=thumbnail", "verify=similarity", "marking=simple"]
    photomaker("preprocess", *parts, *others, *base, f"dataset.root={photos}", f"output={output}")
    return output


@pytest.fixture(scope="module")
def rows(dataset):
    return [row for file in sorted(dataset.glob("part-*.parquet")) for row in pq.read_table(file).to_pylist()]


@pytest.fixture(scope="module")
def run(photomaker, dataset, base):
    """Loss weights of a thousand show in the loss."""
    folder = dataset.parent / "runs"
    parts = ["compose=pairs", "adapter.compose.blend=0.5", "loss_weights=two_levels", "tracker=spreadsheet"]
    parts += ["train.loss_weights.below=1000", "train.loss_weights.above=1000"]
    short = ["steps=2", "batch_size=4", "warmup_steps=0", "lr_id_encoder=0.01", "null_text=0", "log_every=1"]
    short += ["validate_every=null", "checkpoint_every=null"]
    place = [f"data={dataset}", f"storage_path={folder}", "name=mine", "engine=ddp", "workers.num=1"]
    photomaker("train", *parts, *(f"train.{setting}" for setting in short), *base, *place)
    return folder / "mine"


def test_source(rows):
    """The people are those of the album, whatever folders their photos are in."""
    people = {person: sorted(r["photo"] for r in rows if r["identity"] == person) for person in ("anna", "ben", "cleo")}
    assert sum(map(len, people.values())) == len(rows) == 9
    assert people["ben"] == [f"{thing}s/a_man_in_a_red_{thing}_1.png" for thing in ("coat", "hat", "scarf")]


def test_face(rows):
    """Half a photo's height (64 px), a fifth below its top: the values of conf/face/passport.yaml."""
    assert {tuple(np.round(row["face_box"], 3)) for row in rows} == {(20.8, 12.8, 43.2, 44.8)}


def test_embedder(dataset, rows):
    """Faces are compared with the distances of conf/embedder/thumbnail.yaml, and all of them pass."""
    stored = json.loads((dataset / "dataset.json").read_text())["settings"]
    assert stored["embedder"] == {"name": "my_parts.thumbnail"}
    assert (stored["verify"]["min_spread"], stored["verify"]["max_distance"]) == (0.5, 1.9)
    assert len(rows) == 9


def test_mask(rows):
    for row in rows:
        mask = np.asarray(Image.open(io.BytesIO(row["mask"]))) >= 128
        x0, y0, x1, y1 = face_in_crop(row["face_box"], row["crop_box"], mask.shape[0])
        down, across = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
        from_middle = np.hypot((across - (x0 + x1) / 2) / (x1 - x0), (down - (y0 + y1) / 2) / (y1 - y0))
        assert (mask == (from_middle < 0.75)).mean() > 0.95  # 1.5 of the face, as in conf/mask/oval.yaml


def test_caption(rows):
    captions = {row["photo"]: (row["caption"], row["class_word"]) for row in rows}
    assert captions["hats/a_woman_in_a_red_hat_0.png"] == ("a woman in a red hat 0", "woman")
    assert captions["coats/a_man_in_a_red_coat_1.png"] == ("a man in a red coat 1", "man")


def test_family(rows, tiny_sd15):
    """Text features are those of the penultimate layer, and none of the last."""
    from transformers import CLIPTextModel, CLIPTokenizer

    encoder = CLIPTextModel.from_pretrained(tiny_sd15 / "text_encoder")
    ids = CLIPTokenizer.from_pretrained(tiny_sd15 / "tokenizer")(rows[0]["caption"], padding="max_length")["input_ids"]
    with torch.no_grad():
        output = encoder(torch.tensor([ids]), output_hidden_states=True)
        wanted = encoder.final_layer_norm(output.hidden_states[-2])[0].numpy()
    stored = np.frombuffer(rows[0]["text_embeds"], np.float16).reshape(wanted.shape).astype(np.float32)
    assert np.allclose(stored, wanted, atol=1e-2)
    assert not np.allclose(stored, output.last_hidden_state[0].numpy(), atol=1e-1)


def test_loss_weights_and_tracker(run):
    """The tracker has what the run's own file has; the loss is a thousand times what it would be."""
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    with (run / "metrics.csv").open() as file:
        tracked = {(int(row["step"]), row["name"]): float(row["value"]) for row in csv.DictReader(file)}
    assert [line["step"] for line in logged] == [1, 2]
    assert {step: value for (step, name), value in tracked.items() if name == "train/loss"} == {
        line["step"]: line["loss"] for line in logged
    }
    assert all(100 < line["loss"] < 10_000 for line in logged)


def test_composer_learns_and_its_adapter_says_what_it_needs(run):
    with safe_open(run / "adapter.safetensors", framework="pt") as adapter:
        assert json.loads(adapter.metadata()["compose"]) == {"name": "my_parts.pairs", "blend": 0.5}
        assert adapter.get_tensor("id_encoder.compose.view.weight").abs().max() > 0  # it started as zeros


def test_generate(run, base, photos, photomaker, tmp_path):
    """In a process of its own, which imports what the adapter names only because it is told to.

    Another value of the schedule's own setting makes another picture.
    """
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    command = [sys.executable, "-m", "pipelines._photomaker", "generate", "--config-dir", f"{HERE}/my_parts/conf"]
    settings = [f"adapter={run / 'adapter.safetensors'}", f"id_images=[{photos / 'hats'}]", f"prompt={PROMPT}"]
    settings += ["images=1", "sampler=respaced", "sampler.steps=2", f"output={tmp_path}", MODULES, *base]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run([*command, *settings], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    picture = Image.open(tmp_path / "0000.png")
    assert picture.size == (32, 32)
    others = [setting for setting in settings if not setting.startswith("output=")]
    for spacing in SPACINGS:
        output = tmp_path / spacing
        photomaker("generate", *others, f"output={output}", f"sampler.schedule.spacing={spacing}")
    same = [np.array_equal(picture, Image.open(tmp_path / spacing / "0000.png")) for spacing in SPACINGS]
    assert same == [False, True]  # conf/sampler/respaced.yaml says trailing


def test_serve(run, base, photos):
    """Two tokens for each of two photos: the text is three tokens longer, in the server's engine, too."""
    config = load([*base[1:], "base.family=my_parts.clip_skip", MODULES])
    config = replace(config, adapters={"mine": str(run / "adapter.safetensors")})
    engine = Engine(config, MemoryRecorder())
    try:
        files = sorted((photos / "hats").iterdir())[:2]
        prepared = engine.pipeline.references(files)
        assert all(reference.mask is not None for reference in prepared)
        request = Request(PROMPT, [r.image for r in prepared], masks=[r.mask for r in prepared], steps=2)
        (row,) = engine.pipeline.prepare([request])
        embeds = row.conditioning.embeds.flatten(0, -2)
        assert len(embeds) == engine.pipeline.base.max_tokens + 2 * 2 - 1
        assert not torch.equal(embeds[2], embeds[3])  # after the start and "a": both tokens of the first photo
        asked = parse({"prompt": PROMPT, "model": "mine", "steps": 2}, compat=False)
        (job,) = jobs(asked, len(files), config, config.adapters, request_id="r", tenant="t")
        event = asyncio.run(last(engine.generate(job, [Photo(f.name, read_photo(f)) for f in files])))
        assert event["type"] == "image", event
    finally:
        engine.stop()


async def last(events) -> dict:
    async for event in events:
        found = event
    return found
