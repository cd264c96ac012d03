"""Each part by itself, from its YAML file: where the pipeline fails, this says which of them it was."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pm.config import from_mapping
from pm.data.captioning.choice import CaptionChoice
from pm.data.records import Photo
from pm.data.source.choice import SourceChoice
from pm.data.verify.choice import VerifyChoice
from pm.errors import ConfigError
from pm.evaluate.metrics.base import MetricChoice, Pictures
from pm.model.compose.base import ComposeChoice
from pm.photo.embedders.embed import EmbedderChoice
from pm.photo.faces.detect import FaceChoice
from pm.photo.masks.select import MaskChoice
from pm.photo.types import Crop, Face, PhotoView
from pm.sample.schedules.base import NoiseLevels, ScheduleChoice
from pm.sample.schedules.ddim import Ddim
from pm.track.base import RunInfo, TrackerChoice
from pm.train.losses.choice import LossWeights

CONF = Path(__file__).parent / "my_parts" / "conf"
REAL = Path(__file__).resolve().parents[2] / "conf"
SPACINGS = ("leading", "trailing")


def part(kind, name: str, conf: Path = CONF, **changes):
    values = yaml.safe_load((conf / kind.group / f"{name}.yaml").read_text())
    return from_mapping(kind, values | changes, kind.group)


def test_passport():
    (face,) = part(FaceChoice, "passport").build()(PhotoView.of(np.zeros((100, 80, 3), np.uint8)))
    assert face.box == pytest.approx((22.5, 20, 57.5, 70))
    with pytest.raises(ConfigError, match="face.height=2.0 must be"):
        part(FaceChoice, "passport", height=2)


def test_thumbnail():
    choice = part(EmbedderChoice, "thumbnail")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    faces = [Face(box, landmarks=(), score=1.0) for box in ((0, 0, 20, 20), (30, 10, 50, 30))]
    first, second = choice.build()(pixels, faces)
    assert first.shape == (64,) and abs(first.mean()) < 1e-3 and not np.allclose(first, second)
    part(VerifyChoice, "similarity", conf=REAL).require(choice)


def test_respaced():
    values = yaml.safe_load((CONF / "sampler" / "respaced.yaml").read_text())["schedule"]
    levels = NoiseLevels(np.linspace(0.999, 0.01, 100), "epsilon", {"timestep_spacing": "leading"})
    plans = [from_mapping(ScheduleChoice, {**values, "spacing": each}).plan(levels, 4, 0) for each in SPACINGS]
    assert [plan.timesteps.tolist() for plan in plans] == [[75, 50, 25, 0], [99, 74, 49, 24]]
    assert torch.equal(plans[0].table, Ddim("ddim").plan(levels, 4, 0).table)


def test_brightness():
    dark, light = (np.full((8, 8, 3), value, np.uint8) for value in (51, 204))
    metric = part(MetricChoice, "brightness").load("cpu")
    measured = metric.measure([Pictures(None, [dark, light]), Pictures(None, [light])])
    assert [each.values for each in measured] == [pytest.approx([0.2, 0.8]), pytest.approx([0.8])]
    assert metric.summary({"anna": measured[:1], "ben": measured[1:]}).mean == pytest.approx(0.65)


def test_oval():
    pixels = np.zeros((60, 60, 3), np.uint8)
    crop = Crop(PhotoView.of(pixels), (0, 0, 60, 60), (20, 20, 40, 40), pixels)
    (mask,) = part(MaskChoice, "oval").build()(crop)
    assert (mask >= 128).sum() == pytest.approx(np.pi * 15**2, rel=0.02) and mask[30, 30] == 255 and mask[0, 0] == 0


def test_filename():
    captioner = part(CaptionChoice, "filename").build("", device="cpu", dtype="float32", batch_size=None)
    assert captioner(Photo("anna", "any/a_woman_in_a_red_hat.png")) == ("a woman in a red hat", "")


def test_albums(photos):
    found = list(part(SourceChoice, "albums", root=str(photos)).found(Counter()))
    assert len(found) == 9 and found[3].identity == "ben" and found[3].name == "hats/a_man_in_a_red_hat_1.png"


def test_pairs():
    choice = part(ComposeChoice, "pairs")
    embeds, counts = torch.arange(12.0).view(3, 4), torch.tensor([1, 2])
    tokens, strength = choice.build(4, max_images=2)(embeds, counts, torch.tensor([1.0, 0.5, 2.0]))
    assert choice.tokens(3, 2) == len(tokens) == 6 and choice.tokens_of_each(counts).tolist() == [2, 4]
    assert torch.equal(tokens, embeds.repeat_interleave(2, 0)) and strength.tolist() == [1, 1, 0.5, 0.5, 2, 2]


def test_two_levels():
    rule = part(LossWeights, "two_levels").build(None)
    assert rule(torch.tensor([0, 499, 500, 999])).tolist() == [0.5, 0.5, 1, 1]


def test_spreadsheet(tmp_path):
    choice = part(TrackerChoice, "spreadsheet")
    for start, last in ((0, 3), (2, 4)):  # the second goes on after step 2
        tracker = choice.build(tmp_path, RunInfo("mine", "train", {}, step=start), print)
        for step in range(start + 1, last + 1):
            tracker.metrics({"loss": start}, step)
    assert (tmp_path / "metrics.csv").read_text() == "step,name,value\n1,loss,0\n2,loss,0\n3,loss,2\n4,loss,2\n"
