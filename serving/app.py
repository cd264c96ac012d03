"""The service on Ray Serve: one deployment for HTTP, one for the sampler, one for quotas where keys have any.

`serve deploy serving/config.yaml`, or `serve run serving.app:build_app`.
"""

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from pm.errors import ConfigError, PmError
from pm.gpus import see_only
from serving.config import ScaleConfig, ServeConfig, load
from serving.engine.backend import RayBackend
from serving.http.keys import Key, KeyFile
from serving.http.quota import LocalQuotas
from serving.http.routes import create_app
from serving.http.service import Service
from serving.http.shared_quota import SharedQuotas
from serving.jobs import Job, Look, Photo
from serving.metrics import RayRecorder

logger = logging.getLogger("ray.serve")
NAME = "photomaker"
# Requests that one ingress holds at once, refused ones included: they must reach it to be told why. What it accepts is
# bounded by limits.in_flight_images.
_CONNECTIONS = 1024


class EngineReplica:
    """A replica of the sampler."""

    def __init__(self, config: ServeConfig) -> None:
        see_only(config.engines.num_gpus)  # Ray hides none from replicas without, and all would sit on the first
        # Only here: an ingress needs neither torch nor diffusers, and starts in a third of the time without.
        from serving.engine.core import Engine

        self.engine, self.configured = Engine(config, RayRecorder()), False

    async def generate(self, job: Job, photos: Sequence[Photo]) -> AsyncGenerator[dict[str, Any], None]:
        """`Engine.generate`."""
        async with aclosing(self.engine.generate(job, photos)) as events:
            async for event in events:
                yield event

    async def look(self, look: Look, photos: Sequence[Photo]) -> list[dict[str, Any]]:
        """`Engine.look`."""
        return await self.engine.look(look, photos)

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Swap adapters without a restart: {"adapters": {name: file}}.

        Serve stops a replica that raises here. A new one with a wrong file does not start; a running one serves on.
        """
        try:
            await self.engine.swap_adapters(user_config["adapters"])
        except PmError as error:
            if not self.configured:
                raise
            logger.error("user_config cannot be used, adapters are served as before: %s", error)
        self.configured = True

    def stats(self) -> dict[str, int]:
        """Rows on their way, images waiting, steps since the start, process id."""
        return self.engine.stats()

    def check_health(self) -> None:
        self.engine.check()

    def __del__(self) -> None:
        if hasattr(self, "engine"):
            self.engine.stop()


class QuotasReplica:
    """One place for the rates of all keys, however many ingress replicas there are."""

    def __init__(self, config: ServeConfig) -> None:
        self.quotas = LocalQuotas(config.limits.request_s, config.limits.retry_after_s)

    async def acquire(self, name: str, key: Key, lease: str, images: int) -> tuple[str, float] | None:
        return await self.quotas.acquire(name, key, lease, images)

    async def release(self, name: str, lease: str) -> None:
        await self.quotas.release(name, lease)


class RemoteQuotas:
    """That place, behind a handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self.handle = handle

    async def acquire(self, name: str, key: Key, lease: str, images: int) -> tuple[str, float] | None:
        return await self.handle.acquire.remote(name, key, lease, images)

    async def release(self, name: str, lease: str) -> None:
        await self.handle.release.remote(name, lease)


class IngressReplica:
    """A replica that speaks HTTP."""

    def __init__(self, config: ServeConfig, engine: DeploymentHandle, quotas: DeploymentHandle | None) -> None:
        recorder = RayRecorder()
        app = serve.get_replica_context().app_name
        backend = RayBackend(engine, config.retries, config.limits.retry_after_s, recorder, app)
        local = LocalQuotas(config.limits.request_s, config.limits.retry_after_s)
        keys = None if config.keys.file is None else KeyFile(config.keys.file)
        shared = None if quotas is None else RemoteQuotas(quotas)
        most = config.ingress.max_replicas
        kept = local if shared is None else SharedQuotas(shared, most, local, recorder)
        self.service = Service(config, backend, recorder, kept, keys)

    def __serve_build_asgi_app__(self):
        return create_app(self.service)

    def check_health(self) -> None:
        self.service.beat()

    def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """The names that clients may use; the engines get the same."""
        self.service.adapters = dict(user_config["adapters"])


# Not as decorators: type checkers take a decorated class for what it was before.
EngineDeployment = serve.deployment(name="Engine")(EngineReplica)
QuotasDeployment = serve.deployment(name="Quotas")(QuotasReplica)
IngressDeployment = serve.deployment(name="Ingress")(serve.ingress()(IngressReplica))


def deploy(config: ServeConfig) -> serve.Application:
    """The application for one configuration."""
    limits, retry = config.limits, {"status_code": 429, "retry_after_s": config.limits.retry_after_s}
    adapters = {"adapters": dict(config.adapters)}
    engine = EngineDeployment.options(
        user_config=adapters,
        # As many as are sampled together, and a few whose faces are found meanwhile; with Serve's default of 5 no
        # batch would ever fill.
        max_ongoing_requests=config.engine.max_rows + config.engine.lookahead,
        backpressure_config=retry,
        max_constructor_retry_count=3,  # a wrong file stays wrong
        **_scale(config.engines),
    ).bind(config)
    quotas = None
    if config.keys.file is not None and config.ingress.max_replicas > 1:
        quotas = QuotasDeployment.options(num_replicas=1, ray_actor_options={"num_cpus": 0}).bind(config)
    return IngressDeployment.options(
        user_config=adapters,
        max_ongoing_requests=max(_CONNECTIONS, 2 * limits.in_flight_images),
        backpressure_config=retry,
        **_scale(config.ingress),
    ).bind(config, engine, quotas)


def build_app(args: Mapping[str, Any]) -> serve.Application:
    """The application for `serve deploy`; `args: {host, overrides: [base=sdxl, ...]}`, with Hydra overrides.

    `host` is that of `http_options` in the same file, which an application cannot see; left out, other machines are
    assumed to reach it.

    Raises:
        ConfigError: an unknown argument or override, or an open door.
    """
    unknown = set(args) - {"host", "overrides"}
    if unknown:
        raise ConfigError(f"args has {', '.join(sorted(unknown))}; known are host and overrides")
    config = load(args.get("overrides") or [])
    config = replace(config, http=replace(config.http, host=args.get("host", "0.0.0.0")))
    config.check_exposure()
    return deploy(config)


def _scale(scale: ScaleConfig) -> dict[str, Any]:
    return {
        "autoscaling_config": scale.autoscaling(),
        "max_queued_requests": scale.max_queued_requests,
        "ray_actor_options": {"num_cpus": scale.num_cpus, "num_gpus": scale.num_gpus},
        "graceful_shutdown_timeout_s": scale.drain_s,
        "graceful_shutdown_wait_loop_s": 0.5,
        "max_surge_percent": scale.surge_percent,
    }
