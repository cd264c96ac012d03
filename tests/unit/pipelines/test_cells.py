"""A cell of a sweep has one flat folder, named after its settings."""

import pytest

from pipelines._cells import cell_name


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["seed=0", "compose=average"], "compose-average_seed-0"),
        (["adapter.lora_rank=4", "engine=ddp", "name=x", "data=a/b"], "adapter.lora_rank-4_engine-ddp"),
        (["+wandb.tags=[a,b]", "init=null", "train.lr_lora=1e-4"], "+wandb.tags-[a,b]_init-null_train.lr_lora-1e-4"),
    ],
)
def test_names_that_could_be_folders_are_as_they_were(overrides, name):
    """Hydra's own `override_dirname`: sweeps of earlier versions resume."""
    assert cell_name(overrides, ["name", "data"]) == name


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("init=a/b.safetensors", "init-a-b.safetensors-"),
        ("init='runs/epoch=9 (1)/фото.safetensors'", "init-runs-epoch-9 (1)-фото.safetensors-"),
        ("init='s3://bucket/x?region=eu'", "init-s3:-bucket-x-region-eu-"),
        ("validation.prompts=['a/b','c']", "validation.prompts-[-a-b-,-c-]-"),
        ("init='a\nb#'", "init-a-b-"),
    ],
)
def test_what_cannot_stand_in_a_name_becomes_a_dash(override, start):
    name = cell_name([override], [])
    assert name.startswith(start) and len(name) == len(start) + 8 and not set(name) & set("/\\'\"#?\n")


def test_different_cells_have_different_folders():
    overrides = ["init=a/b", "init=a-b", "init='a/b'", "init=b/a", "init=a//b", *(f"init={'x' * 300}{i}" for i in "12")]
    names = {cell_name([override, "seed=0"], []) for override in overrides}
    assert len(names) == len(overrides) and max(len(name.encode()) for name in names) <= 200
