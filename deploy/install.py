"""What `make install` does: a virtual environment with this project and everything that constraints.txt pins.

torch comes by pip, from wherever pip is told to look (`TORCH_ARGS`, pip's own configuration). Everything else comes by
uv, which takes a fraction of the time, or by pip where uv cannot be had. On Linux the public index's torch brings
several GB of CUDA; a machine without an NVIDIA GPU gets a build for the CPU, or is told how to name one.
"""

from __future__ import annotations  # an older Python shall get as far as our message

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_UNREACHED = {"UV_HTTP_TIMEOUT": "5", "UV_HTTP_RETRIES": "0"}  # an index that does not answer is given up soon


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("venv", type=Path)
    parser.add_argument("--torch", required=True, help="requirement, such as torch==2.13.0")
    parser.add_argument("--torch-args", default="", help="options of pip for it; given ones are never second-guessed")
    parser.add_argument("--extras", default="dev,photos,metrics")
    options = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit(f"error: {sys.executable} is Python {sys.version.split()[0]}, 3.11 is needed: make PYTHON=python3.11")
    python = options.venv.absolute() / "bin" / "python"
    if not python.exists():
        run([sys.executable, "-m", "venv", options.venv])
    uv = find_uv(python)
    install_torch(python, uv, options.torch, options.torch_args)
    pins = write_pins(python, options.venv / "constraints.txt")
    project = ["-c", pins, "-e", f"{ROOT}[{options.extras}]"]
    if uv is None or not run(
        [uv, "pip", "install", "-q", "--python", python, *uv_indexes(python), *project], ends=False
    ):
        run([python, "-m", "pip", "install", "-q", *project])
    run([python, ROOT / "deploy" / "compile.py"])


def install_torch(python: Path, uv: str | None, torch: str, arguments: str) -> None:
    """By pip; where that would bring CUDA to a machine without a GPU, by uv, which knows PyTorch's index for CPUs."""
    if (installed_torch(python) or "").partition("+")[0] == torch.partition("+")[0]:
        return
    if not arguments and sys.platform == "linux" and not has_gpu() and brings_cuda(python, torch):
        backend = ["pip", "install", "-q", "--python", python, "--torch-backend", "cpu", torch]
        if uv is None or not run([uv, *backend, "--dry-run"], ends=False, quiet=True, **_UNREACHED):
            sys.exit(
                f"error: this machine has no NVIDIA GPU, and pip's {torch} brings several GB of CUDA; nothing was "
                "downloaded. Set TORCH_ARGS to PyTorch's index of CPU wheels, which its installation page "
                'shows for Linux, pip and CPU: make install TORCH_ARGS="--index-url <that address>". To take CUDA all '
                'the same: TORCH_ARGS="--prefer-binary"'
            )
        run([uv, *backend])
    else:
        # compile.py compiles what is imported; all of torch would take longer.
        run([python, "-m", "pip", "install", "-q", "--no-compile", *shlex.split(arguments), torch])


def installed_torch(python: Path) -> str | None:
    """Its requirement, `torch==2.13.0+cpu`; None where there is none."""
    code = "import importlib.metadata as m; print('torch==' + m.version('torch'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip() or None


def has_gpu() -> bool:
    """Whether an NVIDIA driver is there."""
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()


def brings_cuda(python: Path, torch: str) -> bool:
    """Whether pip's choice depends on CUDA packages; asks for its metadata only."""
    ask = ["install", "-q", "--dry-run", "--no-deps", "--ignore-installed", "--report", "-", torch]
    done = subprocess.run([python, "-m", "pip", *ask], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    needs = json.loads(done.stdout)["install"][0]["metadata"].get("requires_dist", [])
    return any(re.match(r"(nvidia|cuda)[-_]", need) for need in needs)


def find_uv(python: Path) -> str | None:
    """uv of this machine, else from the index into the environment; None where there is none to be had."""
    found = shutil.which("uv") or shutil.which("uv", path=python.parent)
    if found is None and run([python, "-m", "pip", "install", "-q", uv_pin()], ends=False, quiet=True):
        found = shutil.which("uv", path=python.parent)
    return found


def uv_pin() -> str:
    """The version that this was written for."""
    return re.search(r"^uv==\S+$", (ROOT / "constraints.txt").read_text(), re.M)[0]


def write_pins(python: Path, path: Path) -> Path:
    """constraints.txt with the torch that is installed, whichever it is: nothing replaces it or what it brought."""
    frozen = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    beside = re.compile(r"^(triton|nvidia-[\w-]+|cuda-[\w-]+)==")
    installed = [installed_torch(python), *(line for line in frozen.split("\n") if beside.match(line))]
    names = {line.split("==")[0] for line in installed}
    pins = (ROOT / "constraints.txt").read_text().split("\n")
    path.write_text("\n".join([line for line in pins if line.split("==")[0] not in names] + installed) + "\n")
    return path


def uv_indexes(python: Path) -> list[str]:
    """Where pip's configuration looks, in uv's words: it reads none of pip's files."""
    shown = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    options = []
    for key, value in re.findall(r"^(?:global|install|:env:)\.([\w-]+)='(.*)'$", shown, re.M):
        if key == "index-url":
            options += ["--default-index", value]
        if key in ("extra-index-url", "find-links"):
            flag = "--index" if key == "extra-index-url" else "--find-links"
            options += [word for place in value.split() for word in (flag, place)]
        if key == "cert":
            os.environ.setdefault("SSL_CERT_FILE", value)
    return [*options, "--index-strategy", "unsafe-best-match"]  # as pip: the newest of all places


def run(command: list, ends: bool = True, quiet: bool = False, **environment: str) -> bool:
    """Whether a command succeeded; with `ends`, a failure ends this program, whose last lines then are its own."""
    where = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} if quiet else {}
    code = subprocess.run([str(word) for word in command], env=os.environ | environment, **where).returncode
    if code and ends:
        sys.exit(code)
    return code == 0


if __name__ == "__main__":
    main()
