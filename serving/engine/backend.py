"""Where images are made: in this process, or by the engine replicas of Ray Serve."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from serving.errors import ApiError, EngineStopped, overloaded
from serving.jobs import Job, Look, Photo
from serving.metrics import Recorder

logger = logging.getLogger("ray.serve")
_INLINE_BYTES = 64 * 1024  # Ray sends arguments below 100 KB with the call; larger ones go to its object store


class LocalBackend:
    """An engine in this process: for tests, and to measure what HTTP and Ray cost."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    def share(self, photos: Sequence[Photo]) -> Any:
        return photos

    def generate(self, job: Job, photos: Any) -> AsyncGenerator[dict[str, Any], None]:
        return self.engine.generate(job, photos)

    async def look(self, look: Look, photos: Any) -> list[dict[str, Any]]:
        return await self.engine.look(look, photos)

    async def ready(self) -> bool:
        return self.engine.batcher.alive


class RayBackend:
    """Engine replicas behind a Serve handle. An image whose replica died is begun again on another one: its seed is
    decided, so it is the same image, and nothing of it has left the replica but previews."""

    def __init__(self, handle: Any, retries: int, retry_after_s: float, recorder: Recorder, app_name: str) -> None:
        self.handle, self.looks = handle.generate.options(stream=True), handle.look
        self.app_name = app_name
        self.retries, self.retry_after_s, self.recorder = retries, retry_after_s, recorder

    def share(self, photos: Sequence[Photo]) -> Any:
        import ray

        if sum(photo.pixels.nbytes for photo in photos) < _INLINE_BYTES:
            return photos
        return ray.put(list(photos))

    async def generate(self, job: Job, photos: Any) -> AsyncGenerator[dict[str, Any], None]:
        from ray.exceptions import RayError
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

        shown = 0
        for attempt in range(self.retries + 1):
            stream = self.handle.remote(job, photos)
            try:
                async for event in stream:
                    if event["type"] == "preview":
                        if event["index"] < shown:
                            continue
                        shown += 1
                    yield event
                return
            except BackPressureError:
                raise overloaded("all engines are busy; try again", self.retry_after_s, "engine_queue") from None
            except (RayError, DeploymentUnavailableError) as error:
                if not _replica_died(error):
                    raise
                logger.warning("request_id=%s lost its engine (%s)", job.request_id, type(error).__name__)
                self.recorder.record("pm_retries_total")
            finally:
                stream.cancel()
            # Serve learns of the death in its own time; a first new try usually finds another replica at once.
            await asyncio.sleep(min(5.0, 0.2 * 2**attempt))
        raise _unavailable()

    async def look(self, look: Look, photos: Any) -> list[dict[str, Any]]:
        from ray.exceptions import RayError
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

        for _ in range(self.retries + 1):
            try:
                return await self.looks.remote(look, photos)
            except BackPressureError:
                raise overloaded("all engines are busy; try again", self.retry_after_s, "engine_queue") from None
            except (RayError, DeploymentUnavailableError) as error:
                if not _replica_died(error):
                    raise
                logger.warning("request_id=%s lost its engine (%s)", look.request_id, type(error).__name__)
        raise _unavailable()

    async def ready(self) -> bool:
        from ray import serve
        from ray.serve.schema import ApplicationStatus

        status = await asyncio.to_thread(serve.status)
        app = status.applications.get(self.app_name)
        return app is not None and app.status == ApplicationStatus.RUNNING


def _unavailable() -> ApiError:
    return ApiError(503, "the engines keep failing; try again later", code="engine_unavailable", retry_after_s=5)


def _replica_died(error: Exception) -> bool:
    """Whether the request itself is without blame: its replica is gone, or stopped its sampler."""
    from ray.exceptions import NodeDiedError, RayActorError, RayTaskError, WorkerCrashedError
    from ray.serve.exceptions import DeploymentUnavailableError

    if isinstance(error, RayTaskError):
        return isinstance(error.cause, EngineStopped | RayActorError)
    return isinstance(error, RayActorError | NodeDiedError | WorkerCrashedError | DeploymentUnavailableError)
