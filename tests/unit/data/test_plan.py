from dataclasses import replace

import pytest
from support.preprocessing import SIMILARITY, SIZES, settings

from pm.config import from_mapping
from pm.data.config import PreprocessConfig
from pm.data.records import Photo
from pm.data.run.shards import plan_shards, settings_of, shard_limit
from pm.errors import ConfigError


@pytest.mark.parametrize("limit", [1, 4, 7, 1000])
def test_shards_hold_whole_identities_in_order(limit):
    photos = [Photo(f"p{i:03d}", f"p{i:03d}/{k}.png") for i in range(120) for k in range(1 + i % 9)]
    shards = list(plan_shards(photos, shard_limit(len(photos), limit)))
    assert [replace(p, shard=0) for shard in shards for p in shard] == photos
    assert all(p.shard == number for number, shard in enumerate(shards) for p in shard)
    where = [{p.identity for p in shard} for shard in shards]
    assert sum(map(len, where)) == 120
    assert all(
        len(shard) <= min(limit, len(photos) // 32) or len(people) == 1
        for shard, people in zip(shards, where, strict=True)
    )


def test_settings_name_what_the_content_depends_on_and_nothing_else():
    config = from_mapping(PreprocessConfig, settings())
    first = settings_of(config, SIZES, "listing")
    elsewhere = replace(config, output="other", overwrite=True, workers=replace(config.workers, faces=4, batch_size=2))
    assert settings_of(elsewhere, SIZES, "listing") == first
    assert settings_of(replace(config, min_photos=3), SIZES, "listing") != first
    assert settings_of(config, replace(SIZES, fingerprint="bar"), "listing") != first
    assert settings_of(config, SIZES, "more photos") != first


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"verify": SIMILARITY},
            "embedder=dlib",
        ),
        (
            {
                "verify": SIMILARITY,
                "embedder": {"name": "probe", "path": "probe.safetensors"},
            },
            "embedder.min_spread",
        ),
        ({"embedder": {"name": "probe", "min_spread": 0, "max_distance": 1}}, "embedder.path"),
        ({"face": {"name": "dlib", "min_size": 8}}, "face.upsample"),
        ({"mask": {"name": "grabcut", "min_overlap": 0.3, "max_share": 0.9}}, "mask.iterations"),
        ({"caption": {"name": "template", "templates": ["a man"]}}, "{word}"),
        ({"caption": {"name": "template", "templates": []}}, "caption.templates"),
        ({"crop": {"face_share": 1.5, "working_side": 512, "max_upscale": 2}}, "crop.face_share=1.5"),
        ({"caption": {"name": "blip2"}}, "caption.path"),
        ({"mask": {"name": "mask2former", "min_overlap": 0.3, "max_share": 1.0}}, "mask.path"),
        ({"min_photos": 0}, "min_photos=0"),
        ({"dataset": {**settings()["dataset"], "root": None}}, "dataset.root"),
        ({"dataset": {**settings()["dataset"], "name": "toon", "identities": 3}}, "dataset.photos_per_identity"),
    ],
)
def test_bad_combinations_fail_before_anything_runs(changes, message):
    with pytest.raises(ConfigError) as caught:
        from_mapping(PreprocessConfig, settings(**changes))
    assert message in str(caught.value)
