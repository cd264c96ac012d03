import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.photos import PLAIN

from pm.data.dataset.features import from_bytes, to_bytes
from pm.data.records import Face, Photo
from pm.data.stages.encoder import Encoder, time_ids
from pm.errors import CheckpointError
from pm.model.base import encode_images, encode_text
from pm.model.base_sizes import base_sizes
from pm.model.batching import Batcher, fitting_batch
from pm.model.compose.stacked import Stacked
from pm.model.config import BaseConfig
from pm.model.families.sd15 import StableDiffusion
from pm.model.families.sdxl import StableDiffusionXL
from pm.model.prompt import tokenize
from pm.photo.pixels import decode_png, encode_png

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
            mask=encode_png(np.tril(np.full((32, 32), 255, np.uint8))),
            crop=encode_png(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)),
            caption=caption,
            class_word="woman" if "woman" in caption else "man",
        )
        for i, caption in enumerate(CAPTIONS)
    ]


def features(photo: Photo, name: str) -> np.ndarray:
    return np.frombuffer(getattr(photo, name), np.float16).astype(np.float32)


@functools.cache
def stage_of(config, batch_size):
    return Encoder(config, base_sizes(config), PLAIN, device="cpu", dtype="float32", batch_size=batch_size)


def run(config, photos, batch_size):
    return stage_of(config, batch_size)(photos)


def test_features_are_those_of_the_base(config, photos):
    stage = stage_of(config, 3)
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
    stage = stage_of(config, 4)
    for photo in stage(photos):
        ids = tokenize(stage.base.tokenizers, [photo.caption])[0][0]
        token = stage.base.tokenizers[0].decode([int(ids[photo.class_index])]).strip()
        assert token == photo.class_word


def test_captions_whose_class_word_is_out_of_sight_are_rejected_and_others_stay(config, photos):
    long = replace(photos[0], photo="long", caption="very " * 90 + "nice man")
    gone = photos[1].rejected("masks", "no_mask")
    done = run(config, [long, gone, photos[2]], 3)
    assert [p.reject and p.reject.reason for p in done] == ["class_word_beyond_tokens", "no_mask", None]
    assert done[1] == gone


SDXL = StableDiffusionXL("sdxl")


def test_time_ids_follow_the_family(photos):
    # A 64-pixel crop resized to 32 halves the photo; its corner (left 9, top 12) is halved with it.
    assert time_ids(photos[0], 32, SDXL) == (120, 90, 6, 4, 32, 32)
    whole = replace(photos[0], width=64, height=64, crop_box=(0.0, 0.0, 64.0, 64.0))
    assert time_ids(whole, 64, SDXL) == (64, 64, 0, 0, 64, 64)
    assert time_ids(whole, 64, StableDiffusion("sd15")) == ()


def test_sizes_come_from_the_configs(config, tmp_path):
    sizes = base_sizes(config)
    assert (sizes.resolution, sizes.latent_shape, sizes.vision_size) == (32, (4, 8, 8), 32)
    assert sizes.text_shape == (77, 80) and sizes.least_side == 32
    with pytest.raises(CheckpointError):
        base_sizes(BaseConfig(path=str(tmp_path / "none"), vision_path=config.vision_path))
    with pytest.raises(CheckpointError):
        base_sizes(BaseConfig(path=config.path, vision_path=str(tmp_path / "none")))


def special(config, photos, **features):
    settings = replace(PLAIN, **features)
    stage = Encoder(config, base_sizes(config), settings, device="cpu", dtype="float32", batch_size=3)
    return stage, stage(photos)


def test_bfloat16_storage_keeps_range_and_float16_does_not_overflow(config, photos):
    stage, stored = special(config, photos, storage="bfloat16")
    for photo, plain in zip(stored, run(config, photos, 3), strict=True):
        for name, shape in (("vae_mean", stage.sizes.latent_shape), ("text_embeds", stage.sizes.text_shape)):
            exact = from_bytes(getattr(plain, name), "float16", shape)
            assert torch.allclose(from_bytes(getattr(photo, name), "bfloat16", shape), exact, rtol=2**-7, atol=1e-2)
    big = torch.tensor([1e30, -1e30, 3.0])
    assert from_bytes(to_bytes(big, "float16"), "float16", (3,)).tolist() == [65504, -65504, 3]
    assert from_bytes(to_bytes(big, "bfloat16"), "bfloat16", (3,))[0] == pytest.approx(1e30, rel=2**-7)


def test_repeated_features_are_those_that_merge_repeat_encodes(config, photos):
    from pm.model.merge import repeat_class_tokens

    stage, stored = special(config, photos, repeat=3)
    length, width = stage.sizes.text_shape
    for photo in stored:
        embeds = from_bytes(photo.repeat_embeds, "float16", (3, length, width))
        pooled = from_bytes(photo.repeat_pooled, "float16", (3, stage.sizes.pooled_width))
        ids, index = tokenize(stage.base.tokenizers, [photo.caption]), torch.tensor([photo.class_index])
        for n in (1, 2, 3):
            ends = [t.eos_token_id for t in stage.base.tokenizers]
            longer = [repeat_class_tokens(i, index, torch.tensor([n]), e) for i, e in zip(ids, ends, strict=True)]
            text = encode_text(stage.base, tuple(longer))
            assert torch.allclose(embeds[n - 1], text.embeds[0], atol=5e-3)
            assert torch.allclose(pooled[n - 1], text.pooled[0], atol=5e-3)


def test_the_upper_layers_on_stored_fills_are_the_whole_tower(config, photos):
    from pm.model.id_encoder import build_id_encoder
    from pm.model.images import to_clip

    stage, stored = special(config, photos, noise_fills=3, storage="bfloat16")
    encoder = build_id_encoder(stage.base.text_width, Stacked("stacked"), 4, vision_path=config.vision_path)
    encoder.freeze_below(1)
    assert encoder.frozen_layers == stage.sizes.tower_layers - 1 > 0
    for photo, before in zip(stored, photos, strict=True):
        hidden = from_bytes(photo.tower, "bfloat16", (3, *stage.sizes.tower_shape))
        filled = stage._filled(before)
        assert len({fill.numpy().tobytes() for fill in filled}) == 3
        pixels = np.array(decode_png(photo.id_crop, "RGB")).transpose(2, 0, 1)
        person = np.array(decode_png(before.mask, "L")) >= 128
        assert (filled.numpy()[:, :, person] == pixels[:, person]).all()
        with torch.no_grad():
            whole, upper = encoder.embed(to_clip(filled, 32)), encoder.embed(hidden)
        assert torch.nn.functional.cosine_similarity(whole, upper).min() > 0.999


def test_class_words_that_leave_no_room_to_repeat_are_rejected(config, photos):
    long = replace(photos[0], caption="a " * 72 + "man")
    for repeat, reason in ((0, None), (4, "class_word_beyond_tokens")):
        done = special(config, [long], repeat=repeat)[1][0]
        assert (done.reject and done.reject.reason) == reason


@pytest.mark.parametrize("each, fixed, free, expected", [(10, 100, 1000, 70), (1, 0, 10**9, 256), (500, 0, 100, 1)])
def test_batches_are_measured(each, fixed, free, expected):
    class Meter:
        """A card on which a batch takes a constant and a part for each item."""

        def free(self):
            return free

        def peak(self, run):
            run()
            return fixed + each * sizes[-1]

    sizes = []
    assert fitting_batch(sizes.append, Meter()) == expected


def test_a_batch_that_does_not_fit_is_halved():
    calls = []

    def call(items):
        calls.append(len(items))
        if len(items) > 3:
            raise torch.OutOfMemoryError("too many")
        return [i * i for i in items]

    batcher = Batcher(8, "cpu")
    assert batcher(call, list(range(10))) == [i * i for i in range(10)]
    assert calls == [8, 4, 2, 2, 2, 2, 2] and batcher([].copy, []) == []
    with pytest.raises(torch.OutOfMemoryError):
        Batcher(1, "cpu")(lambda items: call([0] * 9), [1])
