"""Ray's workers find the modules that the driver finds, and no library twice."""

import os
import subprocess
import sys
import sysconfig

import pytest

from pm import ray_env
from pm.errors import ConfigError
from pm.ray_env import module_folders, without_restart_warning
from pm.resources import checkout


def test_modules_of_the_users_own_are_found(tmp_path, monkeypatch):
    """A notebook that adds a folder to its path, a script in a folder of its own, PYTHONPATH."""
    (tmp_path / "added").mkdir()
    (tmp_path / "added" / "mine.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "given"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "added"), str(tmp_path / "gone"), ""])
    folders = module_folders()
    assert folders[:2] == [str(checkout()), str(tmp_path / "given")]
    assert str(tmp_path / "added") in folders and str(tmp_path / "gone") not in folders and "" not in folders
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    subprocess.run([sys.executable, "-c", "import mine, pm"], env=env, check=True, cwd=tmp_path)


def test_libraries_are_left_where_they_are():
    """In front of the standard library, one of their modules could hide one of its own."""
    folders = module_folders()
    assert not {sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")} & set(folders)
    assert len(folders) == len(set(folders))


def test_one_frightening_line_of_rays_core_is_kept_off_the_terminal_and_no_other(capfd):
    with without_restart_warning():
        os.write(
            2,
            b"[E 1925] core_worker.cc: Actor has arguments ... the actor restart will fail. See 53727\nreal trouble\n",
        )
        print("of Python", file=sys.__stderr__, flush=True)
    os.write(2, b"after\n")
    assert capfd.readouterr().err.splitlines() == ["real trouble", "of Python", "after"]


@pytest.mark.parametrize("late", [1, 2])
def test_a_machine_too_busy_for_ray_is_tried_once_more_and_is_then_one_line(monkeypatch, capsys, late):
    tried = []

    def slow(**_):
        tried.append(1)
        if len(tried) > late:
            return
        raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.setenv("RAY_ADDRESS", "anywhere")  # this process keeps its PYTHONPATH
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", slow)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    if late == 1:
        ray_env.ray_init()
    else:
        with pytest.raises(ConfigError, match="Ray did not start in time, twice: .* run the same command again"):
            ray_env.ray_init()
    assert len(tried) == 2 and capsys.readouterr().err.count("trying once more") == 1
