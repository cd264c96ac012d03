"""Which family a base is of, and what Stable Diffusion 1.x and 2.x do otherwise than SDXL."""

import importlib.metadata
import json
import shutil
import sys
import types

import pytest
import torch

from pm.errors import CheckpointError, ConfigError
from pm.model.adapter import adapter_state, apply_adapter, meta_of
from pm.model.adapter_file import load_adapter, save_adapter
from pm.model.base import encode_text, load_base, null_text
from pm.model.base_sizes import base_sizes
from pm.model.compose.stacked import Stacked
from pm.model.config import BaseConfig
from pm.model.families.base import find_family
from pm.model.families.sd15 import StableDiffusion
from pm.model.id_encoder import IdEncoder
from pm.model.photomaker import PhotoMaker
from pm.model.prompt import tokenize


@pytest.fixture
def changed(tiny_sd15, tmp_path):
    """A copy of the base whose `model_index.json` was changed."""

    def change(**entries):
        shutil.copytree(tiny_sd15, tmp_path / "copy")
        index = tmp_path / "copy" / "model_index.json"
        index.write_text(json.dumps(json.loads(index.read_text()) | entries))
        return tmp_path / "copy"

    return change


def test_the_family_is_told_by_the_index(tiny_base, tiny_sd15):
    assert [find_family(folder).name for folder in (tiny_base, tiny_sd15)] == ["sdxl", "sd15"]
    assert load_base(tiny_sd15, ()).family == StableDiffusion("sd15")


@pytest.mark.parametrize(
    "entries, says",
    [
        (
            {
                "_class_name": "FluxPipeline",
                "unet": [None, None],
                "transformer": ["diffusers", "FluxTransformer2DModel"],
            },
            "is a FluxPipeline of scheduler, text_encoder, tokenizer, transformer, vae; supported are "
            r"sd15 \(Stable Diffusion 1.x and 2.x\), sdxl \(Stable Diffusion XL\). For a family of your own",
        ),
        (
            {"_class_name": "StableDiffusion3Pipeline", "text_encoder_3": ["transformers", "T5EncoderModel"]},
            "is a StableDiffusion3Pipeline of .*text_encoder_3",
        ),
        ({"_class_name": "KandinskyV22Pipeline"}, "is a KandinskyV22Pipeline of"),
        (
            {
                "_class_name": "StableDiffusionXLImg2ImgPipeline",
                "text_encoder_2": ["t", "C"],
                "text_encoder": [None] * 2,
            },
            "is a StableDiffusionXLImg2ImgPipeline of scheduler, text_encoder_2",  # SDXL's refiner
        ),
    ],
)
def test_other_families_are_one_clear_line(changed, entries, says):
    with pytest.raises(CheckpointError, match=says) as caught:
        load_base(changed(**entries), ())
    assert "\n" not in str(caught.value)


def test_a_base_that_two_families_claim_is_a_choice_of_the_users(tiny_sd15, monkeypatch):
    monkeypatch.setattr("pm.model.families.sdxl.StableDiffusionXL.claims", lambda *_: True)
    with pytest.raises(CheckpointError, match=r"can be of 2 families, sd15 \(.*\), sdxl \(.*base.family=sd15"):
        find_family(tiny_sd15)
    assert find_family(tiny_sd15, "sd15").name == "sd15"


def test_a_base_for_editing_is_refused_and_one_for_inpainting_is_sampled_only(tiny_sd15, tmp_path):
    shutil.copytree(tiny_sd15, tmp_path / "copy")
    file = tmp_path / "copy/unet/config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"in_channels": 8}))
    with pytest.raises(CheckpointError, match="takes 8 channels where its VAE makes 4: .*editing or upscaling"):
        load_base(tmp_path / "copy", ())
    file.write_text(json.dumps(config | {"in_channels": 9}))
    base = load_base(tmp_path / "copy", ())
    assert (base.latent_channels, base.extra_channels) == (4, 5)
    with pytest.raises(CheckpointError, match="one for inpainting: it can be sampled, but not trained"):
        base_sizes(BaseConfig(str(tmp_path / "copy"), ""))


def test_a_family_by_name_or_from_an_installed_package(changed, monkeypatch):
    folder = changed(_class_name="MyPipeline")
    assert load_base(folder, (), family="sd15").family.name == "sd15"
    with pytest.raises(ConfigError, match="base.family='flux' is not one of sd15, sdxl"):
        load_base(folder, (), family="flux")
    module = types.ModuleType("my_family")
    exec("from pm.model.families.base import *\nfrom pm.model.families.sd15 import StableDiffusion as S", vars(module))
    exec("class Mine(S):\n    def claims(self, index): return index['_class_name'] == 'MyPipeline'", vars(module))
    monkeypatch.setitem(sys.modules, "my_family", module)
    point = importlib.metadata.EntryPoint("mine", "my_family", "photomaker.family")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == point.group else [])
    assert load_base(folder, ()).family.name == "mine"


def test_one_encoder_gives_last_states_and_neither_pooled_text_nor_time_ids(tiny_sd15):
    base = load_base(tiny_sd15)
    assert (base.text_width, base.pooled_width, base.resolution) == (32, 0, 32)
    assert base.scheduler_config["prediction_type"] == "v_prediction"
    ids = tokenize(base.tokenizers, ["a man", "a woman in red"])
    text = encode_text(base, ids)
    assert text.pooled.shape == (2, 0) and base.family.time_ids((9, 9), (0, 0), (9, 9)) == ()
    assert torch.equal(text.embeds, base.text_encoders[0](ids[0]).last_hidden_state)
    sizes = base_sizes(BaseConfig(str(tiny_sd15), base.vision_path))
    assert (sizes.pooled_width, sizes.text_shape, sizes.fingerprint) == (0, (77, 32), base.fingerprint)


def test_the_null_text_is_encoded_also_where_no_encoder_is_loaded(tiny_sd15):
    whole, unet = load_base(tiny_sd15), load_base(tiny_sd15, ("unet",))
    empty = encode_text(whole, tokenize(whole.tokenizers, [""]))
    for base in (whole, unet):
        assert torch.equal(null_text(base, 2).embeds[1], empty.embeds[0]) and empty.embeds.abs().max() > 0
    assert unet.text_encoders is None


def test_a_tower_as_wide_as_the_text_needs_no_second_projection(make_photomaker, tiny_sd15, tmp_path):
    photomaker = make_photomaker(family="sd15")
    encoder = photomaker.id_encoder
    h = encoder.vision_model(torch.zeros(1, 3, 32, 32)).pooler_output
    assert torch.equal(encoder.embed(torch.zeros(1, 3, 32, 32)), encoder.visual_projection(h))
    state = adapter_state(photomaker)
    assert not any("visual_projection_2" in key for key in state)
    save_adapter(tmp_path / "a.safetensors", state, meta_of(photomaker, crop_mode="none", project_version="0"))
    loaded, meta = load_adapter(tmp_path / "a.safetensors")
    other = PhotoMaker(load_base(tiny_sd15, ("unet",)), meta.config(loaded), meta.vision_config)
    apply_adapter(other, loaded, meta)
    assert all(torch.equal(value, state[key]) for key, value in adapter_state(other).items())
    with pytest.raises(CheckpointError, match="projects to 32, the base's text width is 31"):
        IdEncoder(encoder.vision_model.config, 31, Stacked("stacked"), 4)
