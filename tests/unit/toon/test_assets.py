"""The shipped toon base: complete, small, loadable by diffusers itself, and a probe that reads what is drawn."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from pm.errors import CheckpointError
from pm.toon.attributes import ATTRIBUTES, visible_attributes
from pm.toon.base import build_tokenizer
from pm.toon.identities import framing, identities, scene
from pm.toon.probe import Probe, load_probe, save_probe
from pm.toon.render import render_photo

ASSETS = Path(__file__).resolve().parents[3] / "assets" / "toon"


def test_is_small_and_its_training_is_recorded():
    assert sum(f.stat().st_size for f in ASSETS.rglob("*") if f.is_file()) < 40e6
    report = json.loads((ASSETS / "pretrain.json").read_text())
    assert report["settings"]["seed"] == 0 and report["unet_loss"]["token"]["loss"] > 0
    assert report["align_loss"]["unexplained"] < 1


def test_diffusers_own_sdxl_pipeline_loads_and_runs_it():
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(ASSETS, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a man wearing a red hoodie", num_inference_steps=2, height=64, width=64, output_type="np").images
    assert image.shape == (1, 64, 64, 3) and np.isfinite(image).all()


def test_probe_reads_unseen_people():
    rng, probe = random.Random(1), load_probe(ASSETS / "probe.safetensors")
    images, truths = [], []
    for person in identities(120, 5, "eval"):
        view = scene(rng)
        images.append(render_photo(person, view, framing(rng)).image)
        truths.append(visible_attributes(person, view))
    readings = probe.read(np.stack(images))
    for name in ATTRIBUTES:
        hits = [r[name] == t[name] for r, t in zip(readings, truths, strict=True) if name in t]
        assert np.mean(hits) > (0.85 if name == "eyebrows" else 0.93), name


def test_embedding_is_nearer_for_the_same_person():
    rng, probe = random.Random(2), load_probe(ASSETS / "probe.safetensors")
    people = identities(12, 6, "eval")
    photos = [[render_photo(p, scene(rng), framing(rng)).image for p in people] for _ in range(2)]
    one, two = (probe.embed(np.stack(images)) for images in photos)
    similarity = one @ two.T
    assert np.allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)
    assert (similarity.argmax(1) == np.arange(len(people))).mean() > 0.8


def test_probe_survives_its_file(tmp_path):
    torch.manual_seed(0)
    probe = Probe()
    save_probe(probe, tmp_path / "p.safetensors")
    images = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    before, after = probe.probabilities(images), load_probe(tmp_path / "p.safetensors").probabilities(images)
    assert all(np.allclose(before[k], after[k], atol=2e-3) for k in ATTRIBUTES)
    with pytest.raises(CheckpointError, match="no toon probe at"):
        load_probe(tmp_path / "missing.safetensors")


def test_tokenizer_knows_caption_words_and_encodes_everything_else():
    tokenizer = build_tokenizer("<|endoftext|>")
    assert tokenizer.tokenize("a woman wearing purple overalls, winking") == [
        f"{w}</w>" for w in ("a", "woman", "wearing", "purple", "overalls", ",", "winking")
    ]
    ids = tokenizer("Zorro's Übermensch №5").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == "zorro'sübermensch№5"
