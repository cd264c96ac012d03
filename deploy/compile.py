"""Byte-compile what the commands import: `make install` runs it in the new environment, on two cores.

uv leaves compiling to the first import, so a newcomer's first commands would pay for it, and where
`PYTHONDONTWRITEBYTECODE` is set (containers, CI), every process of every run, of which Ray starts a dozen.
Compiling all that is installed would take as long as installing it.
"""

import compileall
import contextlib
import importlib
import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Imported piece by piece, by processes that are not ours or at a late moment: every file of them.
_WHOLE = ("PIL", "_pytest", "aiohttp", "antlr4", "anyio", "deepspeed", "execnet", "fastapi", "hydra", "networkx")
_WHOLE += ("omegaconf", "opentelemetry", "pillow_heif", "pluggy", "pydantic", "pygments", "ray", "rich", "starlette")
_WHOLE += ("uvicorn", "wandb", "websockets", "xdist")
_UNUSED = re.compile(r"/(rllib|llm|tests?|testing|examples?)/")


def main() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    importing = subprocess.Popen(
        [sys.executable, __file__, "import"],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for name in _WHOLE:
        for place in getattr(importlib.util.find_spec(name), "submodule_search_locations", None) or ():
            compileall.compile_dir(place, maxlevels=20, quiet=2, rx=_UNUSED)
    for room in ("pm", "serving", "pipelines"):
        compileall.compile_dir(ROOT / room, quiet=2)
    importing.wait()


def import_all() -> None:
    """Import our modules, and with them all that they need; an extra that is not installed is passed over."""
    sys.path.insert(0, str(ROOT))
    for package in ("pm", "serving"):
        paths = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(paths, f"{package}.", onerror=lambda _: None):
            with contextlib.suppress(Exception, SystemExit):
                importlib.import_module(module.name)


if __name__ == "__main__":
    import_all() if sys.argv[1:] == ["import"] else main()
