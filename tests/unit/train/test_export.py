"""A whole run in one process on the tiny base, and what can be exported from its checkpoints afterwards."""

import json
import re
import shutil

import pytest
import torch
import yaml
from support.photos import SAMPLES
from support.training import run_config

from pm.data.dataset.reader import IdentityDataset
from pm.errors import CheckpointError, ConfigError
from pm.hub.card import read_card
from pm.model.adapter_file import load_adapter
from pm.protect.people import number_of, read_people, saw
from pm.train.export import ExportConfig, export, find_checkpoint
from pm.train.run.context import LocalContext
from pm.train.run.resume import check_config
from pm.train.run.summary import CHECKPOINTS
from pm.train.run.workers import run_worker


@pytest.fixture(scope="module")
def run(tiny_dataset, tiny_base, tmp_path_factory):
    """Four steps with a moving average, checkpoints after 2 and 4."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    config = run_config(tiny_dataset, tiny_base, train__steps=4, train__checkpoint_every=2, train__ema_decay=0.9)
    run_worker(config, LocalContext(folder), {}, callbacks=[])
    return folder


def settings(checkpoint, **over) -> ExportConfig:
    return ExportConfig(
        **{"checkpoint": str(checkpoint), "pick": "newest", "format": "native", "output": None, "modules": ()}
        | {"report": None, "license": None}
        | over
    )


def assert_same(a, b):
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_an_export_after_the_fact_is_the_runs_own_adapter(run, tiny_dataset):
    own, meta = load_adapter(run / "adapter.safetensors")
    target = export(settings(run))
    assert target == run / "adapter-step-00000004.safetensors"
    state, exported = load_adapter(target)
    assert_same(state, own)
    assert exported == meta
    people = sorted(set(IdentityDataset(tiny_dataset, SAMPLES).identities))
    for place in (run, run / "adapter.safetensors", target):  # whoever went in, and nobody else
        assert all(saw(read_people(place), who) for who in people) and number_of(read_people(place)) == len(people)
        assert not saw(read_people(place), "somebody else")
    early, _ = load_adapter(
        export(settings(run / CHECKPOINTS / "step-00000002", output=str(run / "early.safetensors")))
    )
    assert early.keys() == own.keys() and any(not torch.equal(early[key], own[key]) for key in own)


def test_a_folder_for_the_hub_says_what_the_adapter_is(run, tmp_path):
    report = {
        "rows": [{"name": "PhotoMaker", "identity": 0.71234, "prompt": None}],
        "metrics": {"identity": {}, "prompt": {}},
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    options = {"format": "hub", "output": str(tmp_path / "hub"), "license": "apache-2.0"}
    target = export(settings(run, report=str(tmp_path / "report.json"), **options))
    assert_same(load_adapter(target / "adapter.safetensors")[0], load_adapter(run / "adapter.safetensors")[0])
    head, body = read_card(target / "README.md")
    assert head["license"] == "apache-2.0" and head["pipeline_tag"] == "text-to-image" and "base_model" not in head
    for words in ("train.steps", "| 4 ", "identity", "0.712", "fingerprint", "Intended use", "apache-2.0"):
        assert words in body, words
    with pytest.raises(CheckpointError, match="is there already"):
        export(settings(run, **options))
    with pytest.raises(ConfigError, match="report=.* is no report|cannot be read"):
        export(settings(run, format="hub", output=str(tmp_path / "other"), report=str(tmp_path / "hub/README.md")))


def test_a_finished_run_has_a_card(run):
    head, body = read_card(run / "README.md")
    assert "license" not in head and "Not chosen yet" in body and "Not measured" in body


def test_the_published_layout_holds_plain_tensors(run, tmp_path):
    own, _ = load_adapter(run / "adapter.safetensors")
    for source in (run, run / "adapter.safetensors"):
        target = export(settings(source, format="published", output=str(tmp_path / "photomaker.bin")))
        content = torch.load(target, weights_only=True)
        assert content.keys() == {"id_encoder", "lora_weights"}
        assert_same({f"{part}.{key}": value for part, values in content.items() for key, value in values.items()}, own)


def test_the_readme_of_a_diffusers_export_can_be_run(run, tmp_path, tiny_base):
    folder = export(settings(run, format="diffusers", output=str(tmp_path / "lora")))
    text = (folder / "README.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert str(tiny_base.absolute()) in block and "likeness" in text
    exec(compile(block.replace('("a man', '(num_inference_steps=2, prompt="a man'), "README.md", "exec"), {})
    assert (folder / "image.png").is_file()


def test_diffusers_loads_the_lora_folder(run, tmp_path, tiny_base):
    from diffusers import StableDiffusionXLPipeline

    folder = export(settings(run, format="diffusers", output=str(tmp_path / "lora")))
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_base, torch_dtype=torch.float32)
    pipeline.load_lora_weights(str(folder))
    own, _ = load_adapter(run / "adapter.safetensors")
    loaded = dict(pipeline.unet.named_parameters())
    found = 0
    for key, value in own.items():
        if key.startswith("lora_weights.unet."):
            layer, which = key.removeprefix("lora_weights.unet.").removesuffix(".weight").rsplit(".", 1)
            name = next(n for n in loaded if n.startswith(f"{layer}.{which}."))
            assert torch.equal(loaded[name], value), key
            found += 1
    assert found == sum(".lora_" in name for name in loaded)
    with pytest.raises(CheckpointError, match="is there already; remove it or give another output="):
        export(settings(run, format="diffusers", output=str(folder)))


def test_a_checkpoint_holds_little_besides_trained_weights_and_their_optimizer(tiny_dataset, tiny_base, tmp_path):
    config = run_config(tiny_dataset, tiny_base, train__steps=1, adapter__lora_rank=32, adapter__train_layers=2)
    run_worker(config, LocalContext(tmp_path), {}, callbacks=[])
    folder = find_checkpoint(tmp_path, "newest")
    from pm.train.checkpoint import read_checkpoint

    state = read_checkpoint(folder).engine
    tensors = [*state.weights.values(), *(v for values in state.moments.values() for v in values.values())]
    needed = sum(tensor.nbytes for tensor in tensors)
    assert len(tensors) == 3 * len(state.weights)
    assert needed <= sum(file.stat().st_size for file in folder.iterdir()) <= 1.1 * needed


def copied(run, tmp_path, change):
    """The run's last checkpoint with what it was made for changed by `change`."""
    copy = tmp_path / "step-00000009"
    copy.mkdir()
    for file in (run / CHECKPOINTS / "step-00000004").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    meta = json.loads((copy / "state.json").read_text())
    change(meta["provenance"])
    (copy / "state.json").write_text(json.dumps(meta))
    return copy


def test_a_checkpoint_of_a_version_with_other_settings_of_training_is_exported(run, tmp_path):
    checkpoint = copied(run, tmp_path, lambda provenance: provenance["config"].update(workers={"number": 2}, train={}))
    state, _ = load_adapter(export(settings(checkpoint, output=str(tmp_path / "adapter.safetensors"))))
    assert_same(state, load_adapter(run / "adapter.safetensors")[0])


def as_version_0_1_wrote_it(folder):
    """A run's folder with the checkpoints' and the config's former names."""
    for state in folder.glob(f"{CHECKPOINTS}/*/state.json"):
        meta = json.loads(state.read_text())
        origin = meta["provenance"]
        config = origin["config"]
        config["engine"] = {"name": "zero3", "deepspeed": {}}
        config["train"] |= {"loss_weights": "uniform", "min_snr_gamma": 5}
        config["wandb"] = {"enabled": False, "mode": "auto", "project": "p", "entity": None, "group": None, "tags": []}
        for key in ("tracker", "modules"):
            config.pop(key, None)
        config["workers"].pop("loaders")
        config["base"].pop("family")
        config["adapter"]["compose"] = "stacked"
        meta = {key: value for key, value in meta.items() if key != "provenance"}
        state.write_text(json.dumps(meta | {"version": 2, "made_for": origin}))
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"train": config["train"]}))


def test_a_run_that_version_0_1_began_is_exported_and_goes_on(run, tiny_dataset, tiny_base, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(run, old)
    (old / "adapter.safetensors").unlink()
    as_version_0_1_wrote_it(old)
    state, _ = load_adapter(export(settings(old, output=str(tmp_path / "exported.safetensors"))))
    assert_same(state, load_adapter(run / "adapter.safetensors")[0])
    over = {"train__checkpoint_every": 2, "train__ema_decay": 0.9}
    zero3 = {"name": "zero", "stage": 3, "deepspeed": {}}
    longer = run_config(tiny_dataset, tiny_base, train__steps=5, engine=zero3, **over)
    assert [change.key for change in check_config(old, longer)] == ["train.steps"]
    run_worker(longer, LocalContext(old), {}, callbacks=[])
    straight = tmp_path / "straight"
    run_worker(longer, LocalContext(straight), {}, callbacks=[])
    assert_same(load_adapter(old / "adapter.safetensors")[0], load_adapter(straight / "adapter.safetensors")[0])


def test_the_best_of_a_run_without_a_metric_of_its_own_has_the_least_mean_loss(run, tmp_path):
    losses = {
        folder: json.loads((folder / "state.json").read_text())["metrics"]["checkpoint_loss"]
        for folder in sorted((run / CHECKPOINTS).glob("step-*"))
    }
    assert len(losses) == 2 and len(set(losses.values())) == 2
    assert find_checkpoint(run, "best") == min(losses, key=losses.__getitem__)
    state, _ = load_adapter(export(settings(run, pick="best", output=str(tmp_path / "best.safetensors"))))
    best = min(losses, key=losses.__getitem__)
    assert_same(state, load_adapter(export(settings(best, output=str(tmp_path / "same.safetensors"))))[0])


def test_what_cannot_be_exported_is_named(run, tmp_path):
    with pytest.raises(CheckpointError, match="no complete checkpoint at .*give a run's folder"):
        export(settings(tmp_path))
    copy = copied(run, tmp_path, lambda provenance: provenance.update(base="0123456789abcdef"))
    with pytest.raises(CheckpointError, match="was made with base model 0123456789abcdef, but .* restore that base"):
        export(settings(copy))
