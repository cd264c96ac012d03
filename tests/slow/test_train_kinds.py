"""Whole runs of the other kinds of adapters, in one process on the tiny base."""

import pytest
import torch
import yaml
from support.training import ROOT, run_config

from pm.errors import ConfigError
from pm.model.adapter_file import load_adapter
from pm.train.export import ExportConfig, export
from pm.train.run.context import LocalContext
from pm.train.run.resume import check_config, write_config
from pm.train.run.summary import CHECKPOINTS
from pm.train.run.workers import run_worker

KINDS = {
    "ip_adapter": {},
    "resampler": {"projection": "resampler", "depth": 1},
    "fastcomposer": {"train_layers": 1},
    "fastcomposer_lora": {"train_layers": 1, "lora_rank": 4},
    "photomaker_v2": {"train_layers": 1, "lora_rank": 4, "depth": 1},
}


def config(dataset, base, kind, **over):
    name = {"resampler": "ip_adapter", "fastcomposer_lora": "fastcomposer"}.get(kind, kind)
    adapter = yaml.safe_load((ROOT / f"conf/model/{name}.yaml").read_text())
    adapter = adapter.get("adapter", adapter) | KINDS[kind]
    return run_config(dataset, base, **{"adapter": adapter, "train__steps": 4, "train__ema_decay": 0.9} | over)


@pytest.fixture
def dataset(kind, tiny_dataset, request):
    """One that the kind can be trained on."""
    return request.getfixturevalue("face_dataset") if kind == "photomaker_v2" else tiny_dataset


def assert_same(a, b):
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_is_an_uninterrupted_one_and_exports_the_same(kind, dataset, tiny_base, tmp_path):
    whole = config(dataset, tiny_base, kind, train__checkpoint_every=2)
    run_worker(whole, LocalContext(tmp_path / "whole"), {}, callbacks=[])
    half = config(dataset, tiny_base, kind, train__checkpoint_every=2, train__steps=2)
    run_worker(half, LocalContext(tmp_path / "cut"), {}, callbacks=[])
    run_worker(whole, LocalContext(tmp_path / "cut"), {}, callbacks=[])
    state, meta = load_adapter(tmp_path / "whole" / "adapter.safetensors")
    assert meta.kind == whole.adapter.name
    assert_same(load_adapter(tmp_path / "cut" / "adapter.safetensors")[0], state)
    exported = export(
        ExportConfig(str(tmp_path / "whole"), "newest", "native", str(tmp_path / "a.safetensors"), None, None, ())
    )
    again, described = load_adapter(exported)
    assert_same(again, state)
    assert described == meta
    early = ExportConfig(
        str(tmp_path / "whole" / CHECKPOINTS / "step-00000002"), "newest", "native", str(tmp_path / "b"), None, None, ()
    )
    assert any(not torch.equal(load_adapter(export(early))[0][key], state[key]) for key in state)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_starts_from_an_adapter_and_makes_pictures(kind, dataset, tiny_base, tmp_path):
    first = config(dataset, tiny_base, kind, train__steps=1)
    run_worker(first, LocalContext(tmp_path / "first"), {}, callbacks=[])
    file = str(tmp_path / "first" / "adapter.safetensors")
    still = {"train__lr_lora": 0.0, "train__lr_id_encoder": 0.0, "train__validate_every": 1}
    then = config(dataset, tiny_base, kind, init=file, train__steps=1, **still)
    run_worker(then, LocalContext(tmp_path / "then"), {}, callbacks=[])
    assert_same(load_adapter(tmp_path / "then" / "adapter.safetensors")[0], load_adapter(file)[0])
    assert list((tmp_path / "then" / "validation").glob("*.png"))


def test_another_kind_does_not_go_on_in_the_same_run(tiny_dataset, tiny_base, tmp_path):
    write_config(tmp_path, run_config(tiny_dataset, tiny_base))
    with pytest.raises(ConfigError, match="was started with adapter=.*photomaker.* choose another name="):
        check_config(tmp_path, config(tiny_dataset, tiny_base, "ip_adapter"))
