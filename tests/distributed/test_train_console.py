"""Where the cells of a sweep go."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "folders"),
    [
        (["name=one"], ["runs/one"]),
        (
            ["-m", "name=abl", "compose=average,stacked", "seed=1,2"],
            [f"runs/abl/compose-{c}_seed-{s}" for c in ("average", "stacked") for s in (1, 2)],
        ),
    ],
)
def test_each_cell_of_a_sweep_is_a_run_of_its_own(tmp_path, arguments, folders):
    data = tmp_path / "some/data"
    data.mkdir(parents=True)
    (data / "dataset.json").write_text("{}")  # looked for before Ray starts; read by `launch`, which is not ours here
    program = (
        "import json\n"
        "import pm.ray_env, pm.train.run.launch\n"
        "pm.ray_env.ray_init = lambda **_: None\n"
        "def launch(config, run_dir, settings, storage):\n"
        "    print(json.dumps([str(run_dir), config.adapter.compose.name, config.dataset, config.seed]))\n"
        "pm.train.run.launch.launch = launch\n"
        "from pipelines import train; train.main()\n"
    )
    command = [sys.executable, "-c", program, *arguments, "data=some/data"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    cells = [
        json.loads(line)
        for line in done.stdout.splitlines()
        if line.startswith("[") and line.endswith("]") and line.count('"') >= 6
    ]
    assert [cell[0] for cell in cells] == folders
    for run_dir, compose, dataset, seed in cells:
        assert dataset == "some/data"
        if "compose" in run_dir:
            assert run_dir.endswith(f"compose-{compose}_seed-{seed}")
