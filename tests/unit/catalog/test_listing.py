"""`photomaker list`: what is there, and how unfinished runs go on."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from pipelines import list as command
from pm.catalog.listing import ListConfig, listing
from pm.sample.output_file import save_png


@pytest.fixture
def places(tmp_path):
    run = tmp_path / "runs" / "half"
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"step": 3, "loss": 0.25}\n')
    (run / "config.yaml").write_text("dataset: data/mine\ntrain: {steps: 9}\n")
    (run / ".progress.json").write_text('{"phase": "stopped", "step": 3}')
    weights = {"id_encoder.x": np.zeros(2, np.float32)}
    save_file(weights, run / "adapter.safetensors", {"base_fingerprint": "f00", "extra": '{"step": 3}'})
    save_file({"lora.up": np.zeros(2, np.float32)}, tmp_path / "runs" / "style.safetensors")
    made = tmp_path / "runs" / "generate" / "today"
    save_png(made / "0.png", Image.new("RGB", (8, 8)), {"prompt": "a man img in a hat", "seed": 4})
    Image.new("RGB", (8, 8)).save(run / "other.png")
    return tmp_path


def config(places, **over):
    values = {"what": "all", "runs": str(places / "runs"), "data": str(places / "data"), "last": 20, "json": False}
    return ListConfig(**values | over)


def test_tables_name_everything_and_the_way_on(places):
    text = listing(config(places))
    assert "half" in text and "stopped" in text and "photomaker train data=data/mine name=half" in text
    assert "half/adapter.safetensors" in text and "style.safetensors" not in text
    assert "a man img in a hat" in text and "datasets in" in text and "none" in text


def test_json_has_everything(places):
    found = json.loads(listing(config(places, what="pictures", json=True)))
    assert [(row["name"], row["pictures"], row["seed"]) for row in found["pictures"]] == [("generate/today", 1, "4")]


def test_a_word_says_what(monkeypatch):
    monkeypatch.setattr("sys.argv", ["photomaker list", "runs", "last=3"])
    monkeypatch.setattr(command, "listed", lambda: None)
    command.main()
    import sys

    assert sys.argv[1:] == ["what=runs", "last=3"]
