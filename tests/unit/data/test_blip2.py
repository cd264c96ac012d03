from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.tiny_models import write_blip2

from pm.data.captioning.blip2 import Blip2, Blip2Captioner, _Draw
from pm.data.captioning.words import singular, words_in
from pm.data.records import Photo
from pm.data.stages.captions import caption_photos
from pm.errors import CheckpointError, ConfigError
from pm.photo.pixels import encode_png


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = str(write_blip2(tmp_path_factory.mktemp("blip2") / "model"))
    return Blip2("blip2", path=path, prompt="a photo of", attempts=1, max_tokens=4, temperature=1.0)


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(0)
    crops = [encode_png(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)) for _ in range(6)]
    return [Photo("anna", f"anna/{i}.png", sha256=f"{i:064x}", crop=crop) for i, crop in enumerate(crops)]


def test_captions_begin_with_the_prompt_and_do_not_depend_on_the_batch(config, photos):
    eager = replace(config, attempts=12)
    together = Blip2Captioner(eager, device="cpu", batch_size=6).many(photos)
    alone = Blip2Captioner(eager, device="cpu", batch_size=1).many(photos)
    assert together == alone and any(together)
    for caption in together:
        assert caption is None or (caption.startswith("a photo of ") and words_in(singular(caption)))


def test_captions_are_generated_anew_until_a_class_word_appears(config, photos):
    one, few, many = (Blip2Captioner(replace(config, attempts=n), device="cpu").many(photos) for n in (1, 4, 40))
    found = [sum(caption is not None for caption in captions) for captions in (one, few, many)]
    assert found[0] <= found[1] <= found[2] == len(photos) and found[0] < found[2]
    # What an early attempt found stays.
    assert all(a is None or a == b for a, b in zip(few, many, strict=True))


def test_the_stage_marks_them_and_rejects_what_has_no_class_word(config, photos):
    done = caption_photos(photos, Blip2Captioner(replace(config, attempts=40), device="cpu"))
    assert all(p.class_word in words_in(p.caption) and p.class_rule for p in done)
    assert len({p.class_word for p in done if p.class_rule == "group"}) == 1
    once = caption_photos(photos, Blip2Captioner(config, device="cpu"))
    missing = [p for p in once if p.reject]
    assert missing and all((p.reject.stage, p.reject.reason) == ("captions", "no_class_word") for p in missing)


def test_gumbel_noise_draws_from_the_softmax():
    scores = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    drawn = Counter(int(_Draw([seed], 1.0)(None, scores).argmax()) for seed in range(4000))
    expected = torch.softmax(scores[0], 0)
    assert [drawn[i] / 4000 for i in range(4)] == pytest.approx(expected.tolist(), abs=0.03)


def test_a_wrong_model_is_named(config, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match="bert"):
        Blip2Captioner(replace(config, path=str(tmp_path)), device="cpu")
    with pytest.raises(CheckpointError):
        Blip2Captioner(replace(config, path=str(tmp_path / "nowhere")), device="cpu")
