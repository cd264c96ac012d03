"""A misspelt choice and a key of an earlier version are one line that says what to type."""

import pytest
from hydra.core.global_hydra import GlobalHydra

from pipelines import _photomaker
from pipelines._help import choices
from pm.config import from_mapping
from pm.errors import ConfigError
from pm.train.losses.choice import LossWeights
from serving.compose import composed


@pytest.fixture
def said(monkeypatch, tmp_path):
    """What a command that is typed wrongly says."""
    monkeypatch.chdir(tmp_path)

    def call(line: str) -> str:
        GlobalHydra.instance().clear()
        monkeypatch.setattr("sys.argv", ["photomaker", *line.split()])
        monkeypatch.setattr(_photomaker, "watch_imports", lambda: None)
        with pytest.raises(SystemExit) as left:
            _photomaker.main()
        return str(left.value.code)

    return call


@pytest.mark.parametrize(
    ("line", "group", "typed", "near"),
    [
        ("generate face=yunett", "face", "yunett", "yunet"),
        ("generate face@photo.face=yunett", "face", "yunett", "yunet"),
        ("train engine=zeroo2 data=x", "engine", "zeroo2", "zero2"),
        ("train -m engine=zero2,zeroo3 data=x", "engine", "zeroo3", "zero3"),
        ("train experiment=table2a tracker=wandbb data=x", "tracker", "wandbb", "wandb"),
        ("train experiment=smok", "experiment", "smok", "smoke"),
        ("train experiment=[smok,toon]", "experiment", "smok", "smoke"),
        ("serve service=tooon", "service", "tooon", "toon"),
        ("preprocess --config-dir {parts} face=pasport", "face", "pasport", "passport"),
    ],
)
def test_a_misspelt_choice_names_its_group_the_nearest_and_all(said, request, line, group, typed, near):
    parts = request.config.rootpath / "tests/extend/my_parts/conf"
    found = said(line.format(parts=parts))
    assert found.startswith(f"error: {group}={typed} is no choice; did you mean {near!r}? choices of {group}: ")
    assert all(choice in found for choice in choices(group)) and "\n" not in found


def test_so_does_what_composes_without_the_command_line():
    with pytest.raises(ConfigError, match="service=tooon is no choice; did you mean 'toon'. choices of service: sdxl,"):
        composed("serve", ["service=tooon"])


@pytest.mark.parametrize(
    ("line", "new"),
    [
        ("train data=x wandb.mode=offline", "wandb.mode of version 0.1 is now tracker.mode=..."),
        ("evaluate wandb.project=x", "wandb.project of version 0.1 is now tracker.project=..."),
        ("train data=x wandb.group=x", "now tracker.run_group=..."),
        ("train data=x wandb.enabled=false", "now tracker=none"),
        ("train data=x train.min_snr_gamma=5", "now loss_weights=min_snr train.loss_weights.gamma=..."),
        ("preprocess marking.rule=paper", "marking.rule of version 0.1 is now marking=..."),
        ("preprocess verify.rule=paper", "now verify=..."),
        ("generate crop.face_share=0.2", "crop.face_share of version 0.1 is now photo.crop.face_share=..."),
    ],
)
def test_a_key_of_version_0_1_names_the_new_one(said, line, new):
    assert new in said(line)


def test_no_new_name_is_given_where_the_command_has_none(said):
    assert "unknown config key 'wandb'" in said("generate wandb.mode=offline")


def test_a_part_that_is_named_without_its_settings_says_where_they_are():
    with pytest.raises(ConfigError, match="loss_weights=min_snr lacks gamma; choose loss_weights=min_snr, which has"):
        from_mapping(LossWeights, "min_snr", "train.loss_weights")


@pytest.mark.parametrize("command", ["forget", "browse"])
def test_a_folder_is_called_as_it_is_typed_and_named_in_full(said, command, tmp_path):
    who = " who=x" if command == "forget" else ""
    found = said(f"{command} dataset=nope foo=x")
    assert "dataset" in found and " data," not in found
    assert f"no dataset at {tmp_path}/nope" in said(f"{command} dataset=nope{who}")
    assert ("give one of dataset=<folder>" if who else "dataset is not set") in said(f"{command}{who}")


def test_nobody_is_told_to_make_what_somebody_is_to_be_removed_from(said):
    assert "nobody can be removed" in said("forget dataset=nope who=x")
