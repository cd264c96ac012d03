"""`make install`: what is installed by what, and that no machine without a GPU downloads CUDA without a word."""

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TORCH = "torch==2.13.0"


@pytest.fixture
def install(monkeypatch):
    """The script as a module, which notes the commands it would run."""
    spec = importlib.util.spec_from_file_location("install", ROOT / "deploy/install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.calls, module.reachable = [], True

    def run(command, ends=True, quiet=False, **environment):
        module.calls.append(" ".join(map(str, command)))
        return ends or module.reachable

    monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(module, "installed_torch", lambda python: None)
    monkeypatch.setattr(module, "has_gpu", lambda: False)
    monkeypatch.setattr(module.sys, "platform", "linux")
    return module


def index_with_torch(folder: Path, requires: str) -> None:
    folder.mkdir()
    with zipfile.ZipFile(folder / "torch-2.13.0-py3-none-any.whl", "w") as wheel:
        metadata = f"Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0\n{requires}"
        wheel.writestr("torch-2.13.0.dist-info/METADATA", metadata)
        wheel.writestr("torch-2.13.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("torch-2.13.0.dist-info/RECORD", "")


@pytest.mark.parametrize(
    ("requires", "cuda"), [("Requires-Dist: nvidia-cublas-cu12 (==12)\n", True), ("Requires-Dist: filelock\n", False)]
)
def test_pip_is_asked_what_torch_would_bring(install, tmp_path, monkeypatch, requires, cuda):
    index_with_torch(tmp_path / "links", requires)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    assert install.brings_cuda(Path(sys.executable), TORCH) is cuda


def test_without_a_gpu_torch_for_the_cpu_comes_by_uv(install, monkeypatch):
    monkeypatch.setattr(install, "brings_cuda", lambda python, torch: True)
    install.install_torch(Path("py"), "uv", TORCH, "")
    assert install.calls == [
        f"uv pip install -q --python py --torch-backend cpu {TORCH} --dry-run",
        f"uv pip install -q --python py --torch-backend cpu {TORCH}",
    ]


@pytest.mark.parametrize("uv", [None, "uv"])
def test_where_that_cannot_be_had_nothing_is_downloaded_and_the_variable_is_named(install, monkeypatch, uv):
    monkeypatch.setattr(install, "brings_cuda", lambda python, torch: True)
    install.reachable = False
    with pytest.raises(SystemExit, match=r"no NVIDIA GPU.*several GB of CUDA; nothing was downloaded. Set TORCH_ARGS"):
        install.install_torch(Path("py"), uv, TORCH, "")
    assert not [call for call in install.calls if "--dry-run" not in call]


@pytest.mark.parametrize(
    ("gpu", "cuda", "arguments"), [(True, True, ""), (False, False, ""), (False, True, "--index-url 'a b'")]
)
def test_otherwise_torch_comes_by_pip(install, monkeypatch, gpu, cuda, arguments):
    monkeypatch.setattr(install, "has_gpu", lambda: gpu)
    monkeypatch.setattr(install, "brings_cuda", lambda python, torch: cuda)
    install.install_torch(Path("py"), "uv", TORCH, arguments)
    given = f" {arguments}".replace("'", "") if arguments else ""
    assert install.calls == [f"py -m pip install -q --no-compile{given} {TORCH}"]


def test_a_torch_that_is_there_stays(install, monkeypatch, tmp_path):
    monkeypatch.setattr(install, "installed_torch", lambda python: f"{TORCH}+cpu")
    install.install_torch(Path("py"), "uv", TORCH, "")
    assert not install.calls
    frozen = "nvidia-cublas-cu12==12.1\ntorch @ file:///x.whl\nnumpy==9\ntriton==3.0\n"
    monkeypatch.setattr(install.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, frozen))
    pins = install.write_pins(Path("py"), tmp_path / "pins.txt").read_text().split()
    assert {f"{TORCH}+cpu", "nvidia-cublas-cu12==12.1", "triton==3.0"} <= set(pins)
    assert [pin for pin in pins if pin.startswith("torch==")] == [f"{TORCH}+cpu"] and "numpy==9" not in pins


def test_uv_looks_where_pip_is_configured_to_look(install, monkeypatch):
    shown = (
        "global.index-url='https://a/simple'\n:env:.find-links='/wheels /more'\nglobal.extra-index-url='file:///b'\n"
    )
    monkeypatch.setattr(install.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, shown))
    words = " ".join(install.uv_indexes(Path("py")))
    assert "--default-index https://a/simple --find-links /wheels --find-links /more --index file:///b" in words


def test_uv_is_pinned_and_pip_takes_over_where_it_fails(install, monkeypatch, tmp_path):
    assert install.uv_pin().startswith("uv==")
    monkeypatch.setattr(install, "find_uv", lambda python: "uv")
    monkeypatch.setattr(install, "write_pins", lambda python, path: path)
    monkeypatch.setattr(install, "uv_indexes", lambda python: [])
    monkeypatch.setattr(install, "install_torch", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["install.py", str(tmp_path), "--torch", TORCH])
    for reachable, installers in ((True, ["uv pip install"]), (False, ["uv pip install", "-m pip install"])):
        install.calls.clear()
        install.reachable = reachable
        install.main()
        found = [call for call in install.calls if " install " in call]
        assert len(found) == len(installers) and all(w in call for w, call in zip(installers, found, strict=True))
        assert all(f"-e {ROOT}[dev,photos,metrics]" in call for call in found)


def test_make_hands_the_variables_over():
    command = ["make", "-n", "install", "VENV=nowhere", "TORCH=torch==2.9", "TORCH_ARGS=--index-url x"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "deploy/install.py nowhere --torch 'torch==2.9' --torch-args '--index-url x'" in shown
