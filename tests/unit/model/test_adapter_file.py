"""The adapter file: round trips, refusals, the published formats."""

import dataclasses
import json
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pm.errors import CheckpointError
from pm.model.adapter import adapter_state, apply_adapter, meta_of, start_from
from pm.model.adapter_file import load_adapter, save_adapter
from pm.model.base import load_base
from pm.model.photomaker import PhotoMaker


@pytest.fixture(scope="module")
def saved(make_photomaker, tmp_path_factory):
    photomaker = make_photomaker()
    path = tmp_path_factory.mktemp("saved") / "run" / "adapter.safetensors"
    meta = meta_of(photomaker, crop_mode="face+mask", project_version="0.1.0", step=12)
    save_adapter(path, adapter_state(photomaker), meta)
    return photomaker, path, meta


@pytest.mark.parametrize(("merge", "compose"), [("insert", "stacked"), ("repeat", "stacked"), ("insert", "linear")])
def test_round_trip_gives_the_same_model(make_photomaker, make_batch, tiny_base, tmp_path, merge, compose):
    photomaker, path = make_photomaker(merge, compose), tmp_path / "adapter.safetensors"
    save_adapter(path, adapter_state(photomaker), meta_of(photomaker, crop_mode="none", project_version="0"))
    state, meta = load_adapter(path)
    again = PhotoMaker(load_base(tiny_base), meta.config(state), vision_config=meta.vision_config).eval()
    apply_adapter(again, state, meta)
    batch = make_batch(photomaker)
    with torch.no_grad():
        expected = photomaker(batch.noisy, batch.timesteps, batch)
        assert torch.equal(again(batch.noisy, batch.timesteps, batch), expected)


def test_file_has_two_prefixes_and_string_metadata(saved):
    photomaker, path, meta = saved
    with safe_open(path, "pt") as opened:
        keys, strings = list(opened.keys()), opened.metadata()
    assert {k.split(".")[0] for k in keys} == {"id_encoder", "lora_weights"}
    lora = [k for k in keys if k.startswith("lora_weights.")]
    assert all(k.startswith("lora_weights.unet.") and k.endswith((".lora_A.weight", ".lora_B.weight")) for k in lora)
    assert any(".attn2.to_out.0.lora_B.weight" in k for k in lora)
    assert strings["base_fingerprint"] == photomaker.base.fingerprint and json.loads(strings["extra"]) == {"step": 12}
    assert load_adapter(path)[1] == meta
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_another_base_is_refused_by_fingerprint(saved, make_photomaker):
    _, path, meta = saved
    state, _ = load_adapter(path)
    other = dataclasses.replace(meta, base_fingerprint="0123456789abcdef")
    with pytest.raises(CheckpointError, match="trained on base 0123456789abcdef"):
        apply_adapter(make_photomaker(), state, other)
    apply_adapter(make_photomaker(), state, other, check_base=False)


@pytest.mark.parametrize(
    ("changes", "says"), [({"merge": "repeat"}, "merge=insert"), ({"compose": "linear"}, "compose=stacked")]
)
def test_another_architecture_is_refused(saved, make_photomaker, changes, says):
    state, meta = load_adapter(saved[1])
    with pytest.raises(CheckpointError, match=says):
        apply_adapter(make_photomaker(**changes), state, meta)


def test_another_rank_or_a_missing_key_is_refused(saved, make_photomaker):
    state, meta = load_adapter(saved[1])
    with pytest.raises(CheckpointError, match="another shape"):
        apply_adapter(make_photomaker(lora_rank=2), state, meta)
    for prefix, says in (("id_encoder.fuse_module", "does not fit the id encoder"), ("lora_weights.", "1 missing")):
        broken = dict(state)
        del broken[next(k for k in state if k.startswith(prefix))]
        with pytest.raises(CheckpointError, match=says):
            apply_adapter(make_photomaker(), broken, meta)


def test_damaged_or_foreign_files_are_refused(saved, tmp_path):
    path = saved[1]
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:2000])
    foreign = tmp_path / "foreign.safetensors"
    save_file({"model.weight": torch.ones(2)}, foreign)
    for file, says in ((cut, "is cut short"), (foreign, "found model.weight"), (tmp_path / "no", "does not exist")):
        with pytest.raises(CheckpointError, match=says):
            load_adapter(file)


class _Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_that_holds_code_is_not_run(tmp_path, capsys):
    file = tmp_path / "evil.bin"
    torch.save({"id_encoder": {"a": _Evil()}, "lora_weights": {}}, file)
    with pytest.raises(CheckpointError, match="holds more than tensors, which could run code; it is not") as caught:
        load_adapter(file)
    assert "weights_only" not in str(caught.value)
    plain = tmp_path / "plain.bin"
    plain.write_bytes(pickle.dumps({"id_encoder": _Evil()}))
    with pytest.raises(CheckpointError):
        load_adapter(plain)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("compose", "says"),
    [
        ("os.path", "compose='os.path' is not one of average, linear, stacked"),
        ("a_module_that_nobody_imported", "neither one of average, linear, stacked nor a module that is imported"),
        ('{"name": "stacked", "evil": 1}', "unknown config key 'compose.evil'"),
        ("{", "damaged metadata"),
    ],
)
def test_a_file_names_our_composers_and_imports_nothing(saved, tmp_path, compose, says):
    file = tmp_path / "a.safetensors"
    with safe_open(saved[1], "pt") as opened:
        save_file(load_file(saved[1]), file, opened.metadata() | {"compose": compose})
    with pytest.raises(CheckpointError, match=says):
        load_adapter(file)


def test_failed_save_leaves_the_old_file(saved, monkeypatch):
    photomaker, path, meta = saved
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_adapter(path, adapter_state(photomaker), meta)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]


def test_partitioned_weights_are_not_saved(make_photomaker):
    photomaker = make_photomaker()
    photomaker.id_encoder.visual_projection_2.weight.data = torch.empty(0)
    with pytest.raises(CheckpointError, match="visual_projection_2.weight is empty"):
        adapter_state(photomaker)


def test_base_stays_out_of_the_file(saved):
    with safe_open(saved[1], "pt") as opened:
        keys = list(opened.keys())
    assert not [k for k in keys if "base_layer" in k or "text_encoder" in k or k.endswith("to_q.weight")]


@pytest.mark.parametrize(("merge", "compose"), [("repeat", "average"), ("insert", "linear")])
def test_training_starts_from_an_adapter_that_composes_otherwise(saved, make_photomaker, merge, compose):
    first, path, _ = saved
    new = make_photomaker(merge, compose)
    own = {k: v.clone() for k, v in adapter_state(new).items() if ".compose." in k}
    for parameter in new.id_encoder.fuse_module.parameters():
        torch.nn.init.normal_(parameter)
    start_from(new, path)
    state, given = adapter_state(new), adapter_state(first)
    assert all(torch.equal(state[k], v) for k, v in given.items())
    assert set(state) - set(given) == set(own) and all(torch.equal(state[k], v) for k, v in own.items())
