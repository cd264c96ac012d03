"""What a process sees and takes of GPUs; a machine with some is faked, as this one may have none."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from pm import gpus
from pm.errors import ConfigError, PmError
from pm.model.batching import Batcher, CudaMeter
from pm.ray_pool import _Actor
from pm.train.checkpoint import RngState

GIB = 2**30
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def machine(monkeypatch):
    """Two cards of 24 GiB, as CUDA shows them to a process; what is asked of the allocator."""
    asked = SimpleNamespace(fraction=1.0, contexts=0)
    monkeypatch.setenv(gpus.VISIBLE, "0,1")
    seen = lambda: [name for name in os.environ[gpus.VISIBLE].split(",") if name]  # noqa: E731

    def context(value):
        asked.contexts += 1
        return value

    fake = {
        "is_available": lambda: bool(seen()),
        "device_count": lambda: len(seen()),
        "is_initialized": lambda: asked.contexts > 0,
        "get_device_properties": lambda *_: context(SimpleNamespace(total_memory=24 * GIB)),
        "get_device_capability": lambda *_: context((8, 6)),
        "get_device_name": lambda *_: "NVIDIA Pretended",
        "get_arch_list": lambda: ["sm_75", "sm_80", "sm_90"],
        "set_per_process_memory_fraction": lambda value, *_: setattr(asked, "fraction", value),
        "get_per_process_memory_fraction": lambda *_: asked.fraction,
        "mem_get_info": lambda *_: (20 * GIB, 24 * GIB),
        "memory_reserved": lambda *_: 2 * GIB,
        "empty_cache": lambda: None,
        "get_rng_state": lambda *_: context(torch.zeros(16, dtype=torch.uint8)),
    }
    for name, value in fake.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    return asked


def test_who_was_given_none_sees_none_and_opens_no_context(machine):
    from pm.sample.devices import best_device

    made = _Actor(lambda: best_device().type, torch.get_num_threads(), 0)
    assert made._worker == "cpu" and torch.cuda.device_count() == 0
    RngState.now()
    assert machine.contexts == 0


def test_a_checkpoint_of_a_process_on_the_cpu_asks_no_gpu(machine):
    assert torch.cuda.is_available() and "cuda" not in RngState.now().tensors and machine.contexts == 0


def test_who_shares_a_card_takes_a_share_with_room_for_its_context(machine):
    gpus.see_only(1)
    assert machine.fraction == 1 and torch.cuda.device_count() == 2
    gpus.see_only(1 / 3)
    assert 3 * (machine.fraction * 24 * GIB + gpus.CONTEXT) == pytest.approx(24 * GIB)
    # The driver says that 20 GiB are free, but they are for the others, too.
    assert CudaMeter().free() == pytest.approx(machine.fraction * 24 * GIB - 2 * GIB, abs=1)


def test_a_replica_without_a_gpu_of_its_own_does_not_sit_on_the_first(machine, monkeypatch):
    from pm.sample.devices import pick_device
    from serving.app import EngineReplica

    engine = lambda config, recorder: SimpleNamespace(device=pick_device("auto"), stop=lambda: None)  # noqa: E731
    monkeypatch.setitem(sys.modules, "serving.engine.core", SimpleNamespace(Engine=engine))
    monkeypatch.setattr("serving.app.RayRecorder", lambda: None)
    config = lambda given: SimpleNamespace(engines=SimpleNamespace(num_gpus=given))  # noqa: E731
    assert EngineReplica(config(0.5)).engine.device.type == "cuda"
    assert EngineReplica(config(0)).engine.device.type == "cpu"


def test_memory_that_runs_out_in_the_first_measurement_means_one_at_a_time():
    class Meter:
        def free(self):
            return GIB

        def peak(self, run):
            run()
            return 1

    def call(items):
        if len(items) > 1:
            raise torch.OutOfMemoryError("two are too many")
        return [2 * item for item in items]

    batches = Batcher(None, "cpu", Meter())
    assert batches(call, [1, 2, 3]) == [2, 4, 6] and batches.batch_size == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.setattr(torch.version, "cuda", None), "a build for the CPU; .*workers.gpus=0"),
        (lambda m: m.setattr(torch.cuda, "is_available", lambda: False), "built for CUDA 12.8, .* the driver is older"),
        (lambda m: m.setattr(torch.cuda, "get_arch_list", lambda: ["sm_90", "compute_90"]), r"no code for .*sm_86"),
    ],
)
def test_a_torch_that_cannot_use_the_gpu_is_refused_at_the_start(machine, monkeypatch, change, message):
    gpus.check_build()
    monkeypatch.setattr(torch.version, "hip", None)
    change(monkeypatch)
    with pytest.raises(PmError, match=message):
        gpus.see_only(1)
    gpus.see_only(0)


def test_the_image_and_the_cluster_have_one_cuda_and_its_torch():
    gpus.check_cuda("12.8", "cu128")
    with pytest.raises(ConfigError, match="built for cpu, not for cu128"):
        gpus.check_cuda(None, "cu128")
    docker, cluster = (ROOT / "deploy/Dockerfile").read_text(), yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
    image = cluster["docker"]["image"]
    cuda = image.rpartition("-")[2]
    assert docker.count(f"FROM {image}") == 2 and f"ARG TORCH_BACKEND={cuda}\n" in docker
    assert any(f"--torch-backend {cuda} " in command for command in cluster["setup_commands"])


def test_float32_is_what_it_says_for_convolutions_too():
    where = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [place.allow_tf32 for place in where]
    try:
        for exact in (True, False):
            gpus.set_float32(exact)
            assert [place.allow_tf32 for place in where] == [not exact, not exact]
    finally:
        for place, value in zip(where, before, strict=True):
            place.allow_tf32 = value


@pytest.mark.parametrize(
    ("available", "used", "said"),
    [
        (["CPUExecutionProvider"], "CPUExecutionProvider", "it was not built for CUDA"),
        (["CUDAExecutionProvider"], "CPUExecutionProvider", "CUDA did not start"),
        (["CUDAExecutionProvider"], "CUDAExecutionProvider", None),
    ],
)
def test_faces_that_are_looked_for_on_the_cpu_for_want_of_a_package_are_mentioned(
    monkeypatch, caplog, available, used, said
):
    from pm.photo.insightface_models import load_models

    class FaceAnalysis:
        def __init__(self, providers, **_):
            assert providers == ["CUDAExecutionProvider", "CPUExecutionProvider"]
            self.models = {"detection": SimpleNamespace(session=SimpleNamespace(get_providers=lambda: [used]))}

        def prepare(self, ctx_id, **_):
            assert ctx_id == 0

    runtime = SimpleNamespace(get_available_providers=lambda: available, __version__="1.0")
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.setitem(sys.modules, "insightface.app", SimpleNamespace(FaceAnalysis=FaceAnalysis))
    monkeypatch.setitem(sys.modules, "insightface", SimpleNamespace())
    load_models("face.pack", "buffalo_l", modules=(), side=64, threshold=0.5, device="cuda")
    assert said is None and not caplog.records or said in caplog.text and "onnxruntime-gpu" in caplog.text
