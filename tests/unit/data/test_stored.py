"""Features that preprocess stored, from the photo to the model: the same as computing them in training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.photos import PLAIN, SAMPLES

from pm.config import from_mapping
from pm.data.dataset.output import open_output
from pm.data.dataset.reader import IdentityDataset, Stored
from pm.data.dataset.writer import finish, write_shard
from pm.data.loading.batches import collate
from pm.data.records import SCHEMA_VERSION, Face, Photo
from pm.data.run.shards import _features
from pm.data.stages.encoder import Encoder
from pm.model.base import load_base
from pm.model.base_sizes import base_sizes
from pm.model.compose.base import ComposeChoice
from pm.model.config import AdapterConfig, BaseConfig
from pm.model.photomaker import PhotoMaker
from pm.photo.pixels import encode_png

SETTINGS = replace(PLAIN, repeat=4, noise_fills=2, storage="bfloat16")


@pytest.fixture(scope="module")
def base(tiny_base) -> BaseConfig:
    return BaseConfig(path=str(tiny_base), vision_path=str(tiny_base / "image_encoder"))


@pytest.fixture(scope="module")
def path(base, tmp_path_factory):
    rng, mask = np.random.default_rng(0), np.tril(np.full((32, 32), 255, np.uint8))
    photos = [
        Photo(
            "anna",
            f"anna/{i}.png",
            width=64,
            height=64,
            faces=(Face((10.0, 20.0, 30.0, 40.0), (), 1.0, ()),),
            crop_box=(0.0, 0.0, 64.0, 64.0),
            crop=encode_png(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)),
            mask=encode_png(mask),
            caption=caption,
            class_word="woman",
            class_rule="group",
        )
        for i, caption in enumerate(["a woman in a red hat", "a smiling woman", "photo of a woman", "a woman", "woman"])
    ]
    sizes, out = base_sizes(base), tmp_path_factory.mktemp("stored") / "out"
    done = Encoder(base, sizes, SETTINGS, device="cpu", dtype="float32", batch_size=4)(photos)
    open_output(out, {}, overwrite=False)
    write_shard(done, out)
    shapes = {
        "latent_shape": sizes.latent_shape,
        "text_shape": sizes.text_shape,
        "features": _features(SETTINGS, sizes),
    }
    meta = {"schema_version": SCHEMA_VERSION, "base": {"fingerprint": sizes.fingerprint}, "settings": {}, **shapes}
    finish(out, ("ingest",), meta)
    return out


def photomaker_of(base: BaseConfig, merge: str, compose: str) -> PhotoMaker:
    torch.manual_seed(0)
    adapter = AdapterConfig(
        compose=from_mapping(ComposeChoice, compose),
        merge=merge,
        lora_rank=4,
        lora_targets=("to_q",),
        train_layers=1,
        max_id_images=4,
        trigger_word="img",
        gradient_checkpointing=False,
    )
    return PhotoMaker(load_base(base.path, vision_path=base.vision_path), adapter).eval()


@pytest.mark.parametrize("compose, tokens", [("stacked", (1, 2, 3, 4)), ("average", (1, 1, 1, 1))])
def test_repeated_text_features_predict_what_encoding_again_predicts(base, path, compose, tokens):
    photomaker = photomaker_of(base, "repeat", compose)
    outputs = []
    for stored in (Stored(), Stored(repeat=tokens)):
        data = IdentityDataset(path, SAMPLES, stored=stored)
        batch = collate([data.sample(1, 0, k) for k in range(5)])
        assert batch.repeated == (stored.repeat is not None)
        noise = torch.randn(batch.mean.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            outputs.append(photomaker(noise, torch.full((5,), 400), replace(batch, drop_text=batch.drop_text & False)))
    assert len(set(batch.id_counts.tolist())) > 1
    torch.testing.assert_close(*outputs, atol=2e-2, rtol=2e-2)  # bfloat16 on disk
    assert (outputs[0][0] - outputs[0][1]).abs().max() > 0.1


def test_lower_layers_stand_for_one_of_the_stored_fills(base, path):
    sizes = base_sizes(base)
    frozen = sizes.tower_layers - 1
    photomaker = photomaker_of(base, "insert", "stacked")
    assert photomaker.id_encoder.frozen_layers == frozen
    data = IdentityDataset(path, SAMPLES, stored=Stored(tower=(sizes.vision_fingerprint, frozen)))
    plain = IdentityDataset(path, SAMPLES)
    fills = set()
    for k in range(5):
        sample, other = data.sample(3, 0, k), plain.sample(3, 0, k)
        assert sample.id_pixels.shape == (len(other.id_pixels), *sizes.tower_shape)
        assert torch.equal(sample.mean, other.mean) and sample.seed == other.seed
        fills |= {each.numpy().tobytes() for each in sample.id_pixels}
        batch = collate([sample])
        with torch.no_grad():
            near = photomaker.id_encoder.embed(batch.id_pixels)
            far = photomaker.id_encoder.embed(collate([other]).id_pixels)
            assert photomaker(torch.randn(1, *sizes.latent_shape), torch.tensor([3]), batch).isfinite().all()
        # Other noise around the same person: alike, not equal.
        assert torch.nn.functional.cosine_similarity(near, far).min() > 0.5
    assert len(fills) > 5  # not always the same fill of a photo


@pytest.mark.parametrize("change", [{"fingerprint": "another"}, {"frozen": 99}])
def test_features_of_another_tower_or_another_split_are_not_used(base, path, change):
    sizes = base_sizes(base)
    tower = (change.get("fingerprint", sizes.vision_fingerprint), change.get("frozen", sizes.tower_layers - 1))
    sample = IdentityDataset(path, SAMPLES, stored=Stored(tower=tower)).sample(0, 0, 0)
    assert sample.id_pixels.dtype == torch.uint8
