"""Somebody else's package, `my_parts`, beside ours: on the path of this process and of Ray's, never installed."""

import importlib
import json
import os
import signal
import sys
import zlib
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from support.photos import write_photo

HERE = Path(__file__).parent
CONF = HERE / "my_parts" / "conf"
# While tests are collected, before the session's Ray starts: its workers get the path of the process that starts it.
sys.path.append(str(HERE))


@pytest.fixture(scope="session")
def photomaker(ray_session):
    """Runs a command in this process with the YAML of `my_parts`: `photomaker train --config-dir ...`."""

    def run(name: str, *settings: str) -> None:
        argv, handler, folder = sys.argv, signal.getsignal(signal.SIGTERM), os.getcwd()
        sys.argv = [f"photomaker {name}", "--config-dir", str(CONF), *settings]
        try:
            importlib.import_module(f"pipelines.{name}").main()
        except SystemExit as end:  # pytest would take it for its own
            raise AssertionError(f"photomaker {name}: {end}") from end
        finally:
            GlobalHydra.instance().clear()
            sys.argv = argv
            signal.signal(signal.SIGTERM, handler)
            os.chdir(folder)

    return run


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Photos of three people without annotations, in folders that are no people; their names say what they show."""
    root, albums = tmp_path_factory.mktemp("photos"), {}
    for seed, (person, word) in enumerate([("anna", "woman"), ("ben", "man"), ("cleo", "woman")]):
        albums[person] = [f"{thing}s/a_{word}_in_a_red_{thing}_{seed}.png" for thing in ("hat", "coat", "scarf")]
        for name in albums[person]:
            write_photo(root / name, zlib.crc32(name.encode()), sidecar=False)
    (root / "albums.json").write_text(json.dumps(albums))
    return root
