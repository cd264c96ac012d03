"""What a resumed run may change, and what it says of it."""

import dataclasses
import json

import pytest
import yaml
from support.training import run_config

from pm.errors import ConfigError
from pm.train.config import TrainConfig
from pm.train.run.resume import _may_change, check_config, write_config

ZERO2 = {"name": "zero", "stage": 2, "deepspeed": {}}


def test_a_new_run_has_nothing_to_compare_with(tmp_path):
    assert check_config(tmp_path, run_config("data", "base")) == []


def test_what_may_change_is_applied_and_said(tmp_path):
    write_config(tmp_path, run_config("data", "base"))
    over = {"train__steps": 99, "train__lr_lora": 0.5, "train__checkpoint_every": None, "workers__num": 4}
    changes = check_config(tmp_path, run_config("data", "base", **over, engine=ZERO2, name="renamed"))
    assert {str(change) for change in changes} == {
        "train.steps=99 (was 6)",
        "train.lr_lora=0.5 (was 0.01)",
        "train.checkpoint_every=null (was 3)",
        "workers.num=4 (was null)",
        'engine=zero {"stage": 2} (was ddp)',
    }
    assert [change.key for change in changes if change.counts] == ["train.lr_lora"]


def test_what_defines_the_run_is_refused_by_name(tmp_path):
    write_config(tmp_path, run_config("data", "base"))
    with pytest.raises(ConfigError, match=r"adapter.compose=stacked \(now average\); choose another name="):
        check_config(tmp_path, run_config("data", "base", adapter__compose="average"))
    with pytest.raises(ConfigError, match=r"seed=0 \(now 1\), train.batch_size=4 \(now 8\); choose"):
        check_config(tmp_path, run_config("data", "base", train__batch_size=8, seed=1))


def test_every_setting_of_an_update_is_one_or_the_other():
    """A new one must be thought of: it defines a run, or it may change."""
    defining = {"batch_size", "betas", "null_text", "masked_loss", "min_references", "max_references", "ema_decay"}
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    assert {name for name in fields if not _may_change(f"train.{name}")} == defining | {"loss_weights", "objective"}


def test_a_run_that_version_0_1_began_goes_on(tmp_path):
    old = json.loads(json.dumps(dataclasses.asdict(run_config("data", "base"))))
    old["train"] |= {"loss_weights": "uniform", "min_snr_gamma": 5}
    old["engine"] = {"name": "zero2", "deepspeed": {}}
    del old["tracker"], old["train"]["best_mode"]  # a setting that it did not have
    old["wandb"] = {"enabled": True, "mode": "auto", "project": "p", "entity": None, "group": None, "tags": []}
    put = lambda config: (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))  # noqa: E731
    put(old)
    assert check_config(tmp_path, run_config("data", "base", engine=ZERO2)) == []
    put(old | {"engine": {"name": "ddp", "deepspeed": {}}})
    assert check_config(tmp_path, run_config("data", "base")) == []
    put(old | {"train": old["train"] | {"loss_weights": "min_snr"}})
    min_snr = {"name": "min_snr", "gamma": 5.0}
    assert check_config(tmp_path, run_config("data", "base", engine=ZERO2, train__loss_weights=min_snr)) == []
    put(old)
    with pytest.raises(ConfigError, match=r"train.loss_weights=uniform \(now debiased\)"):
        check_config(tmp_path, run_config("data", "base", train__loss_weights="debiased"))
