"""Face embeddings in a dataset: stored where asked for, read beside their photos, and known by their embedder."""

import dataclasses

import pytest
import torch
from support.photos import PLAIN, SAMPLES, kept_photo
from support.preprocessing import SIZES, settings
from support.training import run_config

from pm.config import from_mapping
from pm.data.config import PreprocessConfig
from pm.data.dataset.reader import IdentityDataset, Stored
from pm.data.dataset.settings import changes
from pm.data.loading.batches import collate
from pm.data.records import dataset_table, from_table, to_table
from pm.data.run.shards import describe, settings_of
from pm.errors import ConfigError, DataError
from pm.model.config import FaceEmbedding
from pm.train.run.checks import check_dataset


def test_references_bring_their_own_faces(face_dataset):
    data = IdentityDataset(face_dataset, SAMPLES, stored=Stored(faces=True))
    assert data.face_embedding == FaceEmbedding("probe", "", 34)
    pixels = [data.reference(row)[0] for row in range(len(data))]
    samples = [data.sample(0, 0, k) for k in range(6)]
    for sample in samples:
        assert sample.face_embeds.shape == (len(sample.id_pixels), 34)
        for shown, face in zip(sample.id_pixels, sample.face_embeds, strict=True):
            # The middle is the person, whom no noise covers.
            (row,) = (i for i, own in enumerate(pixels) if torch.equal(own[:, 16:, 12:20], shown[:, 16:, 12:20]))
            assert torch.equal(face, data.face_embeds([row])[0])
    batch = collate(samples)
    assert batch.face_embeds.shape == (int(batch.id_counts.sum()), 34)
    assert batch.to("cpu", torch.bfloat16).face_embeds.dtype == torch.bfloat16


def test_they_are_read_where_the_kind_takes_them_alone(face_dataset, tiny_dataset):
    assert IdentityDataset(face_dataset, SAMPLES).sample(0, 0, 0).face_embeds is None
    data = IdentityDataset(tiny_dataset, SAMPLES)
    assert data.face_embedding is None and collate([data.sample(0, 0, 0)]).face_embeds is None


def test_a_dataset_without_them_is_refused_before_any_worker_starts(face_dataset, tiny_dataset, tiny_base):
    v2 = {"name": "photomaker_v2", "merge": "repeat", "tokens": 2, "depth": 1, "lora_rank": 4, "face": None}
    v2 |= {"lora_targets": ["to_q"], "train_layers": 1, "max_id_images": 4, "trigger_word": "img"}
    v2 |= {"gradient_checkpointing": False}
    with pytest.raises(DataError, match="has no face embeddings.*features.face_embeddings=true") as raised:
        check_dataset(run_config(tiny_dataset, tiny_base, adapter=v2))
    assert "\n" not in str(raised.value)
    check_dataset(run_config(face_dataset, tiny_base, adapter=v2))
    check_dataset(run_config(tiny_dataset, tiny_base))


def test_a_photo_keeps_its_embedding_between_stages_and_loses_it_when_rejected():
    photo = dataclasses.replace(kept_photo("anna", 1, 0), face_embedding=(0.5, -2.0))
    assert from_table(to_table([photo]))[0].face_embedding == (0.5, -2.0)
    assert dataset_table([photo]).column("face_embedding").to_pylist() == [[0.5, -2.0]]
    assert photo.rejected("faces", "no_face").face_embedding == ()


def test_asking_for_them_makes_another_dataset_and_not_asking_is_as_before():
    def made(**features):
        values = settings(embedder={"name": "dlib", "min_spread": 0.1, "max_distance": None})
        return from_mapping(PreprocessConfig, values | {"features": values["features"] | features})

    plain, wanted = (settings_of(made(face_embeddings=value), SIZES, "photos") for value in (False, True))
    before = plain | {"features": {k: v for k, v in plain["features"].items() if k != "face_embeddings"}}
    assert not changes(before, plain)
    assert [str(change) for change in changes(plain, wanted)] == ["features.face_embeddings: None there, True now"]
    described = describe(made(face_embeddings=True), SIZES, wanted)
    assert described["features"]["face_embeddings"] and described["settings"]["embedder"]["name"] == "dlib"
    assert "face_embeddings" not in describe(made(), SIZES, plain)["features"]


def test_they_need_an_embedder():
    values = settings(features=dataclasses.asdict(PLAIN) | {"face_embeddings": True})
    with pytest.raises(ConfigError, match="features.face_embeddings=true needs what embeds the faces"):
        from_mapping(PreprocessConfig, values)
