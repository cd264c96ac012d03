"""An engine on the tiny base, the application around it in this process, and one real server per session."""

import dataclasses
import socket
from pathlib import Path

import pytest
import torch
from support.api import local_service

from serving.config import load

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def random_adapter(base: Path, path: Path, seed: int) -> str:
    from pm.model.adapter import adapter_state, meta_of
    from pm.model.adapter_file import save_adapter
    from pm.model.base import load_base
    from pm.model.compose.stacked import Stacked
    from pm.model.config import AdapterConfig
    from pm.model.photomaker import PhotoMaker

    torch.manual_seed(seed)
    model = PhotoMaker(load_base(base), AdapterConfig(Stacked("stacked"), "insert", 4, TARGETS, 0, 16, "img", False))
    with torch.no_grad():
        for parameter in model.parameter_groups()["lora"]:
            parameter.copy_(torch.randn_like(parameter) * 0.1)
    save_adapter(path, adapter_state(model), meta_of(model, crop_mode="none", project_version="0"))
    return str(path)


@pytest.fixture(scope="session")
def adapter_files(tiny_base, tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("adapters")
    return {name: random_adapter(tiny_base, folder / f"{name}.safetensors", i) for i, name in enumerate("ab")}


@pytest.fixture(scope="session")
def config(tiny_base, adapter_files):
    """The service's own configuration, on the tiny base: 32 px, four images at once, four steps."""
    loaded = load(
        ["sampler.steps=4", "limits.body_s=0.5", "engine.max_rows=4", "engine.lookahead=4", "engine.threads=1"]
    )
    base = dataclasses.replace(loaded.base, path=str(tiny_base), vision_path=str(tiny_base / "image_encoder"))
    return dataclasses.replace(loaded, base=base, adapters=adapter_files)


@pytest.fixture(scope="session")
def engine(config):
    from serving.engine.core import Engine
    from serving.metrics import MemoryRecorder

    engine = Engine(config, MemoryRecorder())
    yield engine
    engine.stop()


@pytest.fixture
def make_client(engine, config):
    """HTTP clients of the application in this process, with changed limits or keys; `client.service` is its ingress.

    Strict: what compatibility with other clients allows is tested by itself.
    """
    import httpx

    from serving.http.routes import create_app

    def make(keys=None, compat=False, **limits) -> httpx.AsyncClient:
        service = local_service(engine, config, keys, compat, **limits)
        transport = httpx.ASGITransport(create_app(service))
        client = httpx.AsyncClient(transport=transport, base_url="http://test", timeout=120)
        client.service = service
        return client

    return make


@dataclasses.dataclass
class Server:
    """A running server."""

    port: int
    metrics_port: int
    config: object

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="session")
def server(ray_session, config):
    """The real thing: Ray Serve's proxy, an ingress and an engine, each in a process of its own."""
    import ray
    from ray import serve

    from serving.run import start

    http = dataclasses.replace(config.http, port=free_port())
    running = dataclasses.replace(config, http=http, limits=dataclasses.replace(config.limits, steps=1000))
    start(running)
    yield Server(http.port, ray.nodes()[0]["MetricsExportPort"], running)
    serve.shutdown()
