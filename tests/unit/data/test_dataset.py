from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from support.photos import LATENT, SAMPLES, write_dataset

from pm.data.config import SamplesConfig
from pm.data.dataset.reader import IdentityDataset
from pm.data.loading.batches import collate
from pm.data.loading.cache import ByteCache
from pm.errors import ConfigError, DataError
from pm.model.images import to_clip
from pm.photo.pixels import decode_png


def same(a, b) -> bool:
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)]
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs)


def test_a_sample_is_a_pure_function_of_seed_epoch_and_number(dataset_path):
    first, second = IdentityDataset(dataset_path, SAMPLES), IdentityDataset(dataset_path, SAMPLES, cache_mb=0)
    wanted = [(3, epoch, k) for epoch in (0, 5) for k in range(len(first))]
    forward = {key: first.sample(*key) for key in wanted}
    for key in reversed(wanted):
        assert same(second.sample(*key), forward[key])
    assert not same(first.sample(3, 0, 0), first.sample(4, 0, 0))
    assert len({s.seed for s in forward.values()}) == len(wanted)


def test_every_photo_is_the_target_once_an_epoch_in_another_order(dataset_path):
    data = IdentityDataset(dataset_path, SAMPLES)
    orders = [[data.sample(0, epoch, k).mean.flatten().tolist() for k in range(len(data))] for epoch in (0, 1)]
    rows = sorted(np.frombuffer(data.row(i)["vae_mean"], np.float16).astype(np.float32).tolist() for i in range(18))
    assert len(data) == 18 and sorted(orders[0]) == sorted(orders[1]) == rows
    assert orders[0] != orders[1]


def references_of(data, sample):
    """Row numbers of a sample's references: the rows that match wherever the person is."""
    found = []
    for pixels in sample.id_pixels:
        matches = []
        for number in range(len(data)):
            image, mask = data.reference(number)
            if torch.equal(image * mask, pixels * mask):
                matches.append(number)
        found.append(matches[0])
    return found


def test_references_are_other_photos_of_the_same_person(dataset_path):
    data = IdentityDataset(dataset_path, SAMPLES)
    for k in range(len(data)):
        sample = data.sample(1, 0, k)
        target = next(i for i in range(len(data)) if np.frombuffer(data.row(i)["vae_mean"], np.float16).astype(
            np.float32).tolist() == sample.mean.flatten().tolist())  # fmt: skip
        rows, chosen = data.rows_of(data.identities[target]), references_of(data, sample)
        assert set(chosen) <= set(rows) and len(set(chosen)) == len(chosen) <= min(4, max(1, len(rows) - 1))
        assert (target in chosen) == (len(rows) == 1)


def test_draws_have_their_probabilities(tmp_path):
    data = IdentityDataset(write_dataset(tmp_path / "d", {"a": 6, "b": 6}), SAMPLES)
    samples = [data.sample(0, epoch, k) for epoch in range(60) for k in range(len(data))]
    counts = np.bincount([len(s.id_pixels) for s in samples], minlength=5) / len(samples)
    assert counts[1:] == pytest.approx([0.25] * 4, abs=0.05)
    assert np.mean([s.drop_text for s in samples]) == pytest.approx(0.1, abs=0.03)
    assert np.mean([s.use_mask for s in samples]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([s.use_mask for s in samples if s.drop_text]) == pytest.approx(0.5, abs=0.15)
    fixed = IdentityDataset(
        data.path, SamplesConfig(min_references=2, max_references=2, null_text=0.0, masked_loss=1.0)
    )
    drawn = [fixed.sample(0, 0, k) for k in range(len(fixed))]
    assert {(len(s.id_pixels), s.drop_text, s.use_mask) for s in drawn} == {(2, False, True)}


def test_outside_the_person_is_fresh_noise(dataset_path):
    data = IdentityDataset(dataset_path, SAMPLES)
    image, mask = data.reference(0)
    person = mask.expand_as(image)
    references = [p for epoch in range(30) for k in range(len(data)) for p in data.sample(0, epoch, k).id_pixels]
    fills = [pixels[~person].float() for pixels in references if torch.equal(image[person], pixels[person])]
    assert len(fills) > 3
    for fill in fills:
        assert fill.mean() == pytest.approx(127.5, abs=6) and fill.std() == pytest.approx(73.9, abs=4)
    assert len({tuple(f.tolist()) for f in fills}) == len(fills)


def test_columns_become_tensors_of_the_right_shape(dataset_path):
    data = IdentityDataset(dataset_path, SAMPLES)
    batch = collate([data.sample(0, 0, k) for k in range(6)])
    total = int(batch.id_counts.sum())
    plain = ("captions", "class_words", "repeated", "face_embeds", "photos", "words", "draws")
    shapes = {f.name: tuple(getattr(batch, f.name).shape) for f in fields(batch) if f.name not in plain}
    assert shapes == {
        "mean": (6, *LATENT),
        "logvar": (6, *LATENT),
        "mask": (6, 1, 8, 8),
        "embeds": (6, 7, 10),
        "pooled": (6, 6),
        "time_ids": (6, 6),
        "class_index": (6,),
        "id_pixels": (total, 3, 32, 32),
        "id_counts": (6,),
        "drop_text": (6,),
        "use_mask": (6,),
        "seeds": (6,),
    }
    # Rows 8.. and columns 8..24 of 32 are the person: at an eighth, rows 2.. and columns 2..6.
    wanted = torch.zeros(1, 8, 8)
    wanted[:, 2:, 2:6] = 1
    assert torch.equal(batch.mask[0], wanted)
    assert batch.text.embeds is batch.embeds and len(batch) == 6
    assert batch.drop_text.dtype == torch.bool and batch.seeds.dtype == batch.class_index.dtype == torch.int64


def test_a_batch_is_its_samples_and_casts_what_may_be_cast(dataset_path):
    data = IdentityDataset(dataset_path, SAMPLES)
    samples = [data.sample(2, 0, k) for k in range(5)]
    together, alone = collate(samples), [collate([s]) for s in samples]
    for name in ("mean", "embeds", "id_pixels", "id_counts", "seeds", "mask"):
        assert torch.equal(getattr(together, name), torch.cat([getattr(b, name) for b in alone]))
    assert torch.equal(together.id_pixels, to_clip(torch.cat([s.id_pixels for s in samples]), 32))
    half = together.to("cpu", torch.bfloat16)
    assert half.mean.dtype == half.id_pixels.dtype == torch.bfloat16
    assert (
        half.time_ids.dtype == torch.float32 and half.seeds.dtype == torch.int64 and half.use_mask.dtype == torch.bool
    )


def test_rows_are_what_was_written(dataset_path):
    data = IdentityDataset(dataset_path, SAMPLES)
    assert data.identities[:6] == ["a"] * 5 + ["b"] and data.photos[5] == "b/0.png"
    row = data.row(5)
    assert row["photo"] == "b/0.png" and row["caption"] == "a man, photo 0"
    pixels, mask = data.reference(5)
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(decode_png(row["id_crop"], "RGB")))
    assert mask.dtype == torch.bool and mask.shape == (1, 32, 32)


def test_datasets_that_do_not_fit_are_refused(dataset_path, tmp_path):
    IdentityDataset(dataset_path, SAMPLES, base_fingerprint="base")
    with pytest.raises(DataError, match="made for base there"):
        IdentityDataset(dataset_path, SAMPLES, base_fingerprint="other")
    with pytest.raises(DataError, match="no dataset at"):
        IdentityDataset(tmp_path, SAMPLES)
    with pytest.raises(DataError, match="holds no photo"):
        IdentityDataset(write_dataset(tmp_path / "empty", {"a": 0}, rejected=1), SAMPLES)
    broken = write_dataset(tmp_path / "broken", {"a": 3})
    (broken / "part-00000.parquet").write_bytes(b"cut short")
    with pytest.raises(DataError, match="is damaged"):
        IdentityDataset(broken, SAMPLES).sample(0, 0, 0)
    (broken / "index.parquet").unlink()
    with pytest.raises(DataError, match="index.parquet cannot be read"):
        IdentityDataset(broken, SAMPLES)


def test_one_wrong_bit_in_a_number_is_noticed(tmp_path):
    folder = write_dataset(tmp_path / "flipped", {"a": 3})
    number = IdentityDataset(folder, SAMPLES).row(1, ("vae_mean",))["vae_mean"]
    file = folder / "part-00000.parquet"
    content = bytearray(file.read_bytes())
    content[content.index(number)] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="part-00000.parquet is damaged"):
        IdentityDataset(folder, SAMPLES).row(1)


@pytest.mark.parametrize(
    "change", [{"min_references": 0}, {"max_references": 0}, {"null_text": 1.5}, {"masked_loss": -0.1}]
)
def test_impossible_draws_are_refused(change):
    with pytest.raises(ConfigError):
        replace(SAMPLES, **change)


def test_the_cache_forgets_what_was_used_longest_ago():
    loads = []

    def get(cache, key, size=4):
        return cache.get(key, lambda: (loads.append(key) or key, size))

    cache = ByteCache(limit=10)
    for key in "abacabx":
        assert get(cache, key) == key
        assert cache.size <= 10
    assert loads == ["a", "b", "c", "b", "x"]
    assert get(cache, "huge", size=11) == "huge" and cache.size <= 10
