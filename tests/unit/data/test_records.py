import pyarrow.parquet as pq
import pytest
from support.photos import kept_photo

from pm.data.records import (
    DATASET_SCHEMA,
    Face,
    Photo,
    dataset_table,
    each_kept,
    from_table,
    groups,
    read_meta,
    rejects_table,
    to_table,
)
from pm.errors import DataError


def test_photos_survive_the_way_through_arrow():
    faces = (Face((1.0, 2.0, 3.0, 4.0), (5.0, 6.0), 0.5, (0.25, -1.0)), Face((0.0, 0.0, 9.0, 9.0), (), 1.0, ()))
    photos = [
        kept_photo("a", 0, 3),
        Photo("b", "b/0.png"),
        Photo("c", "c/1.png", faces=faces).rejected("faces", "too_small", 3, 8.5),
        Photo("c", "c/2.png").rejected("ingest", "unreadable"),
    ]
    assert from_table(to_table(photos)) == photos
    assert from_table(to_table([])) == []


def test_dataset_rows_have_all_columns_filled(tmp_path):
    photo = kept_photo("a", 0, 0)
    table = dataset_table([photo, kept_photo("a", 1, 0)])
    assert table.schema.equals(DATASET_SCHEMA)
    assert all(table.column(name).null_count == 0 for name in table.column_names)
    pq.write_table(table, tmp_path / "t.parquet")
    row = pq.read_table(tmp_path / "t.parquet").to_pylist()[0]
    assert row["face_box"] == list(photo.face.box) and row["id_crop"] == photo.id_crop


def test_a_rejected_photo_drops_its_pixels_and_leaves_the_groups():
    rejected = kept_photo("a", 0, 0).rejected("masks", "no_mask", 0, 1)
    assert rejected.mask == rejected.id_crop == rejected.vae_mean == b""
    assert list(groups([rejected, kept_photo("b", 0, 0)])) == ["b"]
    assert each_kept([rejected], lambda p: pytest.fail("touched")) == [rejected]
    row = {"identity": "a", "photo": "a/0.png", "stage": "masks", "reason": "no_mask", "value": 0.0, "threshold": 1.0}
    rest = {"detail": "", "source": "", "licence": "", "sha256": rejected.sha256}
    assert rejects_table([rejected]).to_pylist() == [row | rest]


@pytest.mark.parametrize(
    "content, message",
    [(None, "no dataset at"), ("{", "cannot be read"), ('{"schema_version": 99}', "dataset format 99")],
)
def test_unusable_meta_says_what_to_do(tmp_path, content, message):
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_meta(tmp_path)
    assert "preprocess" in str(caught.value) and "\n" not in str(caught.value)
