"""Entry points as a user starts them, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

from support.pages import Page
from support.photos import write_dataset

ROOT = Path(__file__).resolve().parents[2]


def test_browse_takes_the_dataset_by_name(tmp_path):
    path = write_dataset(tmp_path / "out", {"anna": 2})
    command = [sys.executable, str(ROOT / "pipelines/browse.py"), f"dataset={path}", f"output={tmp_path / 'page.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Page(tmp_path / "page.html").images and str(tmp_path / "page.html") in done.stdout
