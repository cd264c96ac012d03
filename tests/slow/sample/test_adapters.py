"""Several adapters on one base: found, loaded, switched, replaced."""

import dataclasses

import pytest
import torch
from support.sampling import worst

from pm.errors import CheckpointError, RequestError
from pm.model.adapter_file import load_adapter, save_adapter
from pm.sample import BASE, PhotoMakerPipeline, Request
from pm.sample.adapters import find_adapter


@pytest.fixture(scope="module")
def pipeline(tiny_base, adapter_files) -> PhotoMakerPipeline:
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base)
    for name, file in adapter_files.items():
        pipeline.load_photomaker_adapter(file, adapter_name=name)
    return pipeline


def _request(adapter, photos, **changes) -> Request:
    images = () if adapter == BASE else photos[:2]
    prompt = "a man in a red shirt" if adapter == BASE else "a man img in a red shirt"
    return dataclasses.replace(Request(prompt, images, steps=3, merge_step=1, seed=3, adapter=adapter), **changes)


def test_rows_of_several_adapters_and_the_base_sample_together(pipeline, tiny_base, adapter_files, photos):
    names = ["one", BASE, "two", "one"]
    requests = [_request(name, photos, seed=i) for i, name in enumerate(names)]
    together = pipeline.generate(requests)
    alone = {name: PhotoMakerPipeline.from_pretrained(tiny_base, adapter_files.get(name)) for name in set(names)}
    for name, request, image in zip(names, requests, together, strict=True):
        assert worst(image, alone[name].generate([dataclasses.replace(request, adapter=None)])[0]) <= 1
    assert worst(together[0], pipeline.generate([dataclasses.replace(requests[0], adapter="two")])[0]) > 1


def test_names(pipeline, photos):
    assert pipeline.adapters == ("one", "two")
    assert pipeline.adapter().name == "two" and pipeline.adapter(BASE) is None
    assert (pipeline.trigger_word_of("one"), pipeline.max_id_images_of("one")) == ("img", 4)
    assert (pipeline.trigger_word_of(BASE), pipeline.max_id_images_of(BASE)) == (None, None)
    assert len({pipeline.digest_of(name) for name in ("one", "two", BASE)}) == 3
    with pytest.raises(RequestError, match="adapter 'three' is not loaded; use one, two, base"):
        pipeline.check(_request("three", photos))
    with pytest.raises(RequestError, match="no adapter is in use"):
        pipeline.check(_request(BASE, photos, id_images=photos[:1]))


def test_a_row_on_its_way_keeps_the_weights_it_started_with(tiny_base, adapter_files, photos):
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base)
    pipeline.load_photomaker_adapter(adapter_files["one"], adapter_name="person")
    request = _request("person", photos)
    before = pipeline.generate([request])[0]
    sampler = pipeline.sampler()
    key = sampler.add(pipeline.prepare([request])[0])
    sampler.step()
    digest = pipeline.digest_of("person")
    pipeline.load_photomaker_adapter(adapter_files["two"], adapter_name="person")
    assert pipeline.digest_of("person") != digest and pipeline.adapters == ("person",)
    new = sampler.add(pipeline.prepare([request])[0])
    while len(sampler):
        sampler.step()
    latents = sampler.finished()
    assert worst(pipeline.decode(latents[key]), before) <= 1 < worst(pipeline.decode(latents[new]), before)
    pipeline.unload_photomaker_adapter("person")
    assert pipeline.adapters == () and pipeline.trigger_word is None


def test_a_bad_file_leaves_what_is_loaded(tiny_base, adapter_files, tmp_path, photos):
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base, adapter_files["one"])
    before = pipeline.generate([_request(None, photos)])[0]
    state, meta = load_adapter(adapter_files["two"])
    state["id_encoder.visual_projection.weight"][0, 0] = float("nan")
    save_adapter(tmp_path / "nan.safetensors", state, meta)
    with pytest.raises(CheckpointError, match="NaN or infinity in id_encoder.visual_projection.weight"):
        pipeline.load_photomaker_adapter(tmp_path / "nan.safetensors")
    key = next(key for key in state if key.startswith("lora_weights."))
    good, _ = load_adapter(adapter_files["two"])
    save_adapter(tmp_path / "less.safetensors", {k: v for k, v in good.items() if k != key}, meta)
    with pytest.raises(CheckpointError, match="LoRA does not fit this U-Net"):
        pipeline.load_photomaker_adapter(tmp_path / "less.safetensors")
    assert worst(pipeline.generate([_request(None, photos)])[0], before) == 0


def test_where_adapters_are_looked_for(pipeline, adapter_files, tmp_path):
    file = adapter_files["one"]
    assert find_adapter(file, None, "") == find_adapter(file.parent, file.name, "") == file
    assert find_adapter(file.parent.parent, file.name, file.parent.name) == file
    with pytest.raises(CheckpointError, match="holds no nothing.bin; give weight_name"):
        find_adapter(file.parent, "nothing.bin", "")
    with pytest.raises(CheckpointError, match="does not exist"):
        find_adapter(tmp_path / "nowhere" / "deep", None, "")
    with pytest.raises(CheckpointError, match="neither a file nor can adapter.safetensors or .* be fetched"):
        find_adapter("somebody/something", None, "", local_files_only=True)
    with pytest.raises(CheckpointError, match="pm_version=v2 is asked for, this adapter is v1"):
        pipeline.load_photomaker_adapter(file, pm_version="v2")
    with pytest.raises(CheckpointError, match="pm_version='v3' is not one of v1, v2"):
        pipeline.load_photomaker_adapter(file, pm_version="v3")
    with pytest.raises(CheckpointError, match="adapter_name='base'"):
        pipeline.load_photomaker_adapter(file, adapter_name=BASE)


def test_embeddings_know_their_photo_only(pipeline, photos):
    together = pipeline.embed(pipeline.references(photos, "one"), "one")
    assert together.shape == (4, 80) and together.dtype == torch.float32
    single = torch.cat([pipeline.embed(pipeline.references([photo], "one"), "one") for photo in photos])
    torch.testing.assert_close(together, single, atol=1e-5, rtol=1e-5)
    request = _request("one", photos)
    given = dataclasses.replace(request, id_images=(), id_embeds=together[:2])
    assert worst(*pipeline.generate([request, given])) <= 1
    with pytest.raises(RequestError, match="both id_images and id_embeds"):
        pipeline.check(dataclasses.replace(request, id_embeds=together[:2]))
    with pytest.raises(RequestError, match="no identity encoder"):
        pipeline.embed([], BASE)


def test_half_precision(tiny_base, adapter_files, photos):
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base, adapter_files["one"])
    request = _request(None, photos)
    full = pipeline.generate([request])[0]
    half = pipeline.to("cpu", torch.bfloat16).generate([request])[0]
    assert pipeline.dtype == torch.bfloat16 and 0 < worst(full, half) < 40
