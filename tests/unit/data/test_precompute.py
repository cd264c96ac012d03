from dataclasses import replace

import numpy as np
import pytest
import torch

from pm.data.pixels import decode_png, encode_png
from pm.data.precompute import Precompute, base_sizes, time_ids
from pm.data.records import Face, Photo
from pm.errors import CheckpointError
from pm.model.base import encode_images, encode_text
from pm.model.config import BaseConfig
from pm.model.prompt import tokenize

CAPTIONS = ["a man in a red hat", "a photo of a woman", "a man in a red hat", "portrait of a smiling woman"]


@pytest.fixture(scope="module")
def config(tiny_base) -> BaseConfig:
    return BaseConfig(path=str(tiny_base), vision_path=str(tiny_base / "image_encoder"))


@pytest.fixture(scope="module")
def photos() -> list[Photo]:
    rng = np.random.default_rng(0)
    return [
        Photo(
            "a",
            f"a/{i}.png",
            width=90,
            height=120,
            faces=(Face((10.0, 20.0, 30.0, 40.0), (), 1.0, ()),),
            crop_box=(9.0, 12.0, 73.0, 76.0),
            crop=encode_png(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)),
            caption=caption,
            class_word="woman" if "woman" in caption else "man",
        )
        for i, caption in enumerate(CAPTIONS)
    ]


def features(photo: Photo, name: str) -> np.ndarray:
    return np.frombuffer(getattr(photo, name), np.float16).astype(np.float32)


def run(config, photos, batch_size):
    return Precompute(config, base_sizes(config), device="cpu", dtype="float32", batch_size=batch_size)(photos)


def test_features_are_those_of_the_base(config, photos):
    stage = Precompute(config, base_sizes(config), device="cpu", dtype="float32", batch_size=3)
    for photo in stage(photos):
        crop = decode_png(next(p.crop for p in photos if p.photo == photo.photo), "RGB").resize((32, 32), 1)
        image = torch.from_numpy(np.array(crop)).permute(2, 0, 1)[None].float() / 127.5 - 1
        mean, logvar = encode_images(stage.base, image)
        text = encode_text(stage.base, tokenize(stage.base.tokenizers, [photo.caption]))
        assert features(photo, "vae_mean") == pytest.approx(mean.flatten().numpy(), abs=2e-3)
        assert features(photo, "vae_logvar") == pytest.approx(logvar.flatten().numpy(), abs=2e-2)
        assert features(photo, "text_embeds") == pytest.approx(text.embeds.flatten().numpy(), abs=5e-3)
        assert features(photo, "pooled") == pytest.approx(text.pooled.flatten().numpy(), abs=5e-3)
        assert decode_png(photo.id_crop, "RGB").size == (32, 32) and photo.crop == b""


def test_a_batch_is_its_photos_one_by_one(config, photos):
    together, alone = run(config, photos, 4), run(config, photos, 1)
    for a, b in zip(together, alone, strict=True):
        for name in ("vae_mean", "vae_logvar", "text_embeds", "pooled"):
            assert features(a, name) == pytest.approx(features(b, name), abs=5e-3)
        assert replace(a, vae_mean=b"", vae_logvar=b"", text_embeds=b"", pooled=b"") == replace(
            b, vae_mean=b"", vae_logvar=b"", text_embeds=b"", pooled=b""
        )


def test_class_index_is_the_class_words_token(config, photos):
    stage = Precompute(config, base_sizes(config), device="cpu", dtype="float32", batch_size=4)
    for photo in stage(photos):
        ids = tokenize(stage.base.tokenizers, [photo.caption])[0][0]
        token = stage.base.tokenizers[0].decode([int(ids[photo.class_index])]).strip()
        assert token == photo.class_word


def test_captions_whose_class_word_is_out_of_sight_are_rejected_and_others_stay(config, photos):
    long = replace(photos[0], photo="long", caption="very " * 90 + "nice man")
    gone = photos[1].rejected("masks", "no_mask")
    done = run(config, [long, gone, photos[2]], 2)
    assert [p.reject and p.reject.reason for p in done] == ["class_word_beyond_tokens", "no_mask", None]
    assert done[1] == gone


def test_time_ids_follow_sdxl(photos):
    # A 64-pixel crop resized to 32 halves the photo; its corner (left 9, top 12) is halved with it.
    assert time_ids(photos[0], 32) == (120, 90, 6, 4, 32, 32)
    whole = replace(photos[0], width=64, height=64, crop_box=(0.0, 0.0, 64.0, 64.0))
    assert time_ids(whole, 64) == (64, 64, 0, 0, 64, 64)


def test_sizes_come_from_the_configs(config, tmp_path):
    sizes = base_sizes(config)
    assert (sizes.resolution, sizes.latent_shape, sizes.vision_size) == (32, (4, 8, 8), 32)
    assert sizes.text_shape == (77, 80) and sizes.least_side == 32
    with pytest.raises(CheckpointError):
        base_sizes(BaseConfig(path=str(tmp_path / "none"), vision_path=config.vision_path))
    with pytest.raises(CheckpointError):
        base_sizes(BaseConfig(path=config.path, vision_path=str(tmp_path / "none")))
