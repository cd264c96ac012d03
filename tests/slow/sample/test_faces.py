"""Face embeddings for PhotoMaker V2: read from photos by the adapter's embedder, or given; and who is refused."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from support.faces import astronaut
from support.sampling import PROBE, worst, write_v2

from pm.errors import CheckpointError, ConfigError, RequestError
from pm.model.adapter_file import load_adapter, save_adapter
from pm.model.config import FaceEmbedding
from pm.photo.defaults import shipped_part
from pm.photo.embedders.embed import EmbedderChoice
from pm.photo.faces.detect import FaceChoice
from pm.photo.types import Face, PhotoView
from pm.sample import PhotoMakerPipeline, Request
from pm.sample.faces import FaceReader, reader_for
from pm.sample.references import Reference, UnusablePhoto
from pm.weights import fingerprint

PROMPT = "a man img in a red shirt"
# As an adapter says that was trained on annotated drawings.
DRAWN = {"face": {"name": "sidecar", "min_size": 8}, "mask": None}
DRAWN["crop"] = {"face_share": 0.1, "working_side": 512, "max_upscale": 2}


@pytest.fixture(scope="module")
def probe() -> EmbedderChoice:
    return shipped_part(EmbedderChoice, "probe")


@pytest.fixture(scope="module")
def pipeline(tiny_base, adapter_files, tmp_path_factory) -> PhotoMakerPipeline:
    folder = tmp_path_factory.mktemp("v2")
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base, adapter_files["two"])
    for name, merge in (("inserting", "insert"), ("v2", "repeat")):
        file = write_v2(tiny_base, folder / f"{name}.safetensors", merge=merge, seed=7, preprocess=DRAWN)
        pipeline.load_photomaker_adapter(file, adapter_name=name, pm_version="v2")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def request(photos, adapter="v2", **changes) -> Request:
    return dataclasses.replace(
        Request(PROMPT, tuple(photos), seed=3, steps=4, merge_step=0, adapter=adapter), **changes
    )


def test_v1_v2_and_the_base_together_equal_each_alone(pipeline, photos):
    faces = torch.randn(2, 34, generator=torch.Generator().manual_seed(1))
    mixed = [
        request(photos[:2], "photomaker"),
        request(photos[:1]),
        request(photos[1:3], face_embeds=faces, weights=[0.5, 1.0]),
        request(photos[:2], "inserting", face_embeds=faces, seed=4),
        request((), "base", prompt="a man in a red shirt"),
    ]
    together = pipeline.latents(mixed)
    for made, each in zip(together, mixed, strict=True):
        torch.testing.assert_close(made, pipeline.latents([each])[0], atol=1e-5, rtol=1e-4)


def test_a_face_that_is_given_counts_and_one_that_is_read_is_the_same_everywhere(pipeline, photos, probe):
    references = pipeline.references(photos[:2], "v2", preprocess="none")
    read = torch.tensor([reference.face.embedding for reference in references])
    assert read.shape == (2, 34)
    torch.testing.assert_close(read.norm(dim=1), torch.ones(2))
    own = pipeline.latents([request(photos[:2])])[0]
    for other in (
        request(photos[:2], face_embeds=read),
        request((), id_embeds=pipeline.embed(references, "v2")),
        request((), id_embeds=pipeline.embed([Reference(photo) for photo in photos[:2]], "v2")),
    ):
        torch.testing.assert_close(pipeline.latents([other])[0], own)
    changed = pipeline.latents([request(photos[:2], face_embeds=-3 * read)])[0]
    assert (changed - own).abs().max() > 1e-3


def test_published_calls_take_the_face_embeddings_or_make_them(pipeline, photos):
    faces = torch.randn(3, 34, generator=torch.Generator().manual_seed(2))
    call = {"num_inference_steps": 2, "start_merge_step": -1, "preprocess": "none"}
    ours = pipeline.generate([request(photos[:2], steps=2, face_embeds=faces[:2])])[0]
    named = pipeline(PROMPT, input_id_images=photos[:2], id_embeds=faces[:2], seed=3, **call).images[0]
    assert worst(ours, named) == 0
    two = pipeline(
        [PROMPT] * 2, input_id_images=[photos[:2], photos[:1]], id_embeds=[faces[:2], faces[2:]], seed=3, **call
    ).images
    assert worst(two[0], named) <= 1
    made = pipeline(PROMPT, input_id_images=photos[:2], seed=3, **call).images[0]
    assert worst(made, pipeline.generate([request(photos[:2], steps=2)])[0]) == 0
    for given, message in (
        (faces, "3 id_embeds given for 2 ID images"),
        (faces[:2, :30], r"\[2, 30\] given; this adapter takes \[N, 34\]"),
        ("faces", "must be a tensor"),
        (faces[0], r"must be a tensor \[N, E\]"),
        ([], r"must be a tensor \[N, E\]"),
        (faces[:2] * float("nan"), "NaN or infinity"),
    ):
        with pytest.raises(RequestError, match=message):
            pipeline(PROMPT, input_id_images=photos[:2], id_embeds=given, **call)
    with pytest.raises(RequestError, match="takes no face embeddings"):
        pipeline(PROMPT, input_id_images=photos[:2], id_embeds=faces[:2], adapter="photomaker", **call)


def test_face_embeddings_of_a_wrong_form_are_refused(pipeline, photos):
    for odd in ([[0.0] * 34], np.zeros((1, 34)), torch.zeros(34), torch.zeros(1, 34, dtype=torch.int64), "face"):
        with pytest.raises(RequestError, match="must be a tensor of floats"):
            pipeline.check(request(photos[:1], face_embeds=odd))
    with pytest.raises(RequestError, match="both face_embeds and id_embeds"):
        pipeline.check(request((), id_embeds=torch.zeros(1, 2, 80), face_embeds=torch.zeros(1, 34)))


def test_an_adapter_says_which_embedder_it_wants_and_refuses_others(pipeline, tiny_base, tmp_path, probe):
    there = fingerprint(*probe.weights())
    for face, embedder, message in (
        (PROBE, "dlib", "trained with face embeddings of embedder=probe, and embedder=dlib is another"),
        (FaceEmbedding("insightface", "", 512), "probe", "embedder=insightface, and embedder=probe is another"),
        (FaceEmbedding("mine.faces", "", 34), None, "embedder=mine.faces, which is not one of ours; give embedder="),
    ):
        file = write_v2(tiny_base, tmp_path / "v2.safetensors", face=face)
        chosen = None if embedder is None else shipped_part(EmbedderChoice, embedder)
        with pytest.raises(CheckpointError, match=message):
            reader_for(load_adapter(file)[1], chosen)
    with pytest.raises(CheckpointError, match=message):
        pipeline.load_photomaker_adapter(file, adapter_name="other")
    assert "other" not in pipeline.adapters
    state, meta = load_adapter(write_v2(tiny_base, tmp_path / "v2.safetensors"))
    for settings in ({}, meta.settings | {"tokens_per_photo": 3}, {"face_embedding": meta.settings["face_embedding"]}):
        save_adapter(tmp_path / "odd.safetensors", state, dataclasses.replace(meta, settings=settings))
        with pytest.raises(CheckpointError, match="about face embeddings is not that of its weights"):
            pipeline.load_photomaker_adapter(tmp_path / "odd.safetensors", adapter_name="other")
    lost = FaceEmbedding("probe", "0" * 16, 34)
    with pytest.raises(CheckpointError, match="files of embedder=probe are others"):
        pipeline.load_photomaker_adapter(
            write_v2(tiny_base, tmp_path / "v2.safetensors", face=lost), adapter_name="other", read_faces=True
        )
    pixels = np.zeros((64, 64, 3), np.uint8)
    for face, message in (
        (FaceEmbedding("probe", "0" * 16, 34), f"files of embedder=probe are others .{there}.; use those"),
        (FaceEmbedding("", "", 512), "embedder=probe makes 34 numbers of a face, the adapter takes 512"),
    ):
        reader = FaceReader(face, probe, shipped_part(FaceChoice, "portrait"))
        with pytest.raises(CheckpointError, match=message):
            reader(Reference(Image.fromarray(pixels)), Image.fromarray(pixels), "a.png")
    right = FaceReader(FaceEmbedding("probe", there, 34), probe, shipped_part(FaceChoice, "portrait"))
    assert len(right(Reference(Image.fromarray(pixels)), Image.fromarray(pixels), "a.png").face.embedding) == 34


def test_published_weights_want_arcface_and_landmarks_that_it_can_use(pipeline):
    meta = dataclasses.replace(pipeline.adapter("v2").meta, extra={}, settings={"face_embedding": {}})
    meta.settings["face_embedding"] = {"embedder": "", "weights": "", "width": 512}
    reader = reader_for(meta)
    assert (reader.embedder.name, reader.detector.name) == ("insightface", "yunet")
    assert reader_for(pipeline.adapter("photomaker").meta) is None and reader_for(None) is None
    assert reader_for(pipeline.adapter("v2").meta).detector.name == "portrait"
    assert shipped_part(EmbedderChoice, "../face/yunet") is None


def test_photos_without_a_face_are_left_out_or_refused(pipeline, tiny_base, tmp_path, photos):
    pytest.importorskip("cv2")
    file = write_v2(
        tiny_base, tmp_path / "v2.safetensors"
    )  # says nothing of its photos: they are looked at as they are
    pipeline.load_photomaker_adapter(file, adapter_name="bare")
    person = Image.fromarray(astronaut())
    kept = pipeline.references([photos[0], person], "bare")
    assert [r.index for r in kept] == [1] and "photo 1: left out (no face found)" in kept[0].notes[0]
    x0, y0, x1, y1 = kept[0].face.box
    assert x0 < 168 < x1 and y0 < 90 < y1 and len(kept[0].face.embedding) == 34
    with pytest.raises(UnusablePhoto, match="photo 1: no face found; use another photo: this adapter needs to see"):
        pipeline.references([photos[0], person], "bare", strict=True)
    with pytest.raises(RequestError, match="none of the 2 ID photos can be used"):
        pipeline.references(photos[:2], "bare")
    assert [r.face for r in pipeline.references(photos[:2], "bare", read_faces=False)] == [None, None]
    with pytest.raises(RequestError, match="no face found"):  # where nobody looked before
        pipeline.generate([request(photos[:1], "bare")])
    pipeline.unload_photomaker_adapter("bare")


def test_landmarks_of_another_detector_are_looked_for_again(photos):
    pytest.importorskip("cv2")
    embedder = shipped_part(EmbedderChoice, "insightface")
    with pytest.raises(ConfigError, match="embedder=insightface needs landmarks"):
        embedder.check(shipped_part(FaceChoice, "dlib"))
    reader = FaceReader(FaceEmbedding("insightface", "", 512), embedder, shipped_part(FaceChoice, "yunet"))
    pixels = astronaut()
    found = Reference(Image.fromarray(pixels), face=Face((133.0, 48.0, 203.0, 133.0), (), 1.0), landmarks=None)
    face = reader._face(PhotoView.of(pixels), found, "astronaut")
    assert len(face.landmarks) == 10 and face.box != found.face.box
