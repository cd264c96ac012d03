"""Every work-around on a library's private parts is still possible, and still needed.

A test that fails here says that a library has changed: see whether the file it names can go.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """In a process of its own: OpenMP's threads stay, and DeepSpeed keeps what it was told first."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    one = {"DS_ACCELERATOR": "cpu", "LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-m", "support.workarounds", str(tmp_path_factory.mktemp("group") / "store")],
        cwd=ROOT,
        env=os.environ | one,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_gathering_takes_openmp_threads_unless_gloos_threads_are_told(found):
    """`pm/train/engine/gloo.py`"""
    assert found["threads_without"] > 0 == found["threads_with"]
    assert found["torch_threads"] == 2  # as it was


def test_deepspeed_would_compile_an_operator_for_the_cpu(found):
    """`pm/train/engine/join.py`"""
    assert "deepspeed_shm_comm" in found["operators"]


def test_deepspeed_links_no_moments_before_its_first_step(found):
    """`pm/train/engine/linked.py`"""
    assert found["linked_without"] == [False, False] and found["linked_with"] == [True, True]


def test_deepspeed_gathers_persistent_weights_one_by_one_and_has_idle_hooks(found):
    """`pm/train/engine/zero3.py`"""
    assert found["persistent_without"] > 0 == found["persistent_with"]
    assert found["hooks_without"] > found["hooks_with"] == 0  # nothing is partitioned in a model as tiny


def test_deepspeeds_economical_linear_layer_replaces_torchs_for_the_whole_process(found):
    """`pm/train/engine/zero3.py`, `_forget_gathered_linear_weights`"""
    assert found["linear_is_replaced_for_all"]
