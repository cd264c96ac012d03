"""`photomaker train` up to the launch: where runs go, what a path means, and when a dataset is drawn."""

import json
import os
from pathlib import Path

import pytest

from pipelines import train


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """Runs the command in a folder of its own; returns the runs that it would start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")  # the table of a sweep is recorded, too
    monkeypatch.setattr("pm.ray_env.ray_init", lambda **_: None)
    monkeypatch.setattr("pipelines.train.draw", lambda cfg: runs.append(("draw", cfg["data"])))
    for given in ("some/data", "x"):
        (tmp_path / given).mkdir(parents=True)
    runs = []

    def launch(config, run_dir, settings, storage):
        runs.append((str(run_dir), config, os.getcwd()))

    monkeypatch.setattr("pm.train.run.launch.launch", launch)

    def call(*arguments):
        runs.clear()
        monkeypatch.setattr("sys.argv", ["photomaker train", *arguments])
        train.main()
        return list(runs)

    return call


def test_each_path_of_a_sweep_has_one_flat_folder(typed, capsys):
    runs = typed("-m", "data=some/data", "name=abl", "init=adapters/epoch=1 (a).safetensors,b/c.safetensors,null")
    folders, configs = [run[0] for run in runs], [run[1] for run in runs]
    assert [c.init for c in configs] == ["adapters/epoch=1 (a).safetensors", "b/c.safetensors", None]
    assert {c.dataset for c in configs} == {"some/data"}
    assert folders[0].startswith("runs/abl/init-adapters-epoch-1 (a).safetensors-")
    assert folders[1].startswith("runs/abl/init-b-c.safetensors-") and folders[2] == "runs/abl/init-null"
    assert all(folder.count("/") == 2 for folder in folders)
    # Each cell's own settings are kept as they run it again.
    overrides = json.loads(Path(folders[0], "cell.json").read_text())["overrides"]
    (alone,) = typed("-m", *overrides)
    assert alone[0] == folders[0] and alone[1].init == configs[0].init


def test_names_stay_text_in_sweeps_and_alone(typed):
    assert [run[0] for run in typed("data=x", "name=2024_01_01")] == ["runs/2024_01_01"]
    assert [run[0] for run in typed("-m", "data=x", "name=1e5,2024_01_01", "seed=1")] == [
        "runs/1e5/seed-1",
        "runs/2024_01_01/seed-1",
    ]


@pytest.mark.parametrize("extra", [[], ["hydra.job.chdir=true", "hydra.run.dir=elsewhere"]])
def test_relative_paths_are_those_of_where_it_was_typed(typed, tmp_path, extra):
    ((_, config, folder),) = typed("data=some/data", *extra)
    assert folder == str(tmp_path) and config.dataset == "some/data"


def test_only_the_experiments_own_dataset_is_drawn(typed, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("PM_DATA", raising=False)
    assert typed("experiment=smoke")[0] == ("draw", "data/smoke")
    for given in (["data=missing"], ["data=missing", "draw=4"]):
        with pytest.raises(SystemExit, match=f"error: dataset {tmp_path}/missing does not exist"):
            typed("experiment=smoke", *given)
        assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=x", "sede=1"], "unknown config key 'sede'; did you mean 'seed'\\?"),
        (["data=x", "train.stepz=1"], "unknown config key 'train.stepz'; did you mean 'steps'\\?"),
        (["data=x", "engine=zero9"], "engine=zero9 is no choice; did you mean 'zero3'"),
        (["data=x", "name=a", "b"], "'b' is not a setting; write key=value"),
        (["data=x", "train.steps=#1"], "train.steps must be int, got '#1'"),
        (["data=x", "seed=1,2"], "seed"),
        ([], "data"),
    ],
)
def test_mistakes_are_one_line(typed, arguments, message):
    with pytest.raises(SystemExit, match=message) as caught:
        typed(*arguments)
    assert str(caught.value).startswith("error: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("photomaker_v2", "merge=insert changes nothing in model=photomaker_v2; give adapter.merge=insert"),
        ("ip_adapter", "merge=insert changes nothing in model=ip_adapter; leave it out"),
        ("photomaker", None),
    ],
)
def test_a_merge_that_the_model_does_not_take_is_refused(typed, capsys, model, message):
    arguments = ("data=x", f"model={model}", "merge=insert")
    if message is None:
        ((_, config, _),) = typed(*arguments)
        return None if config.adapter.merge == "insert" else pytest.fail(str(config.adapter))
    with pytest.raises(SystemExit) as left:
        typed(*arguments)
    assert message in f"{left.value} {capsys.readouterr().err}"
