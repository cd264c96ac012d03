"""Quotas kept in one place for all ingress replicas; while that place does not answer, each replica keeps its share."""

import asyncio
import logging
import math
import time
from dataclasses import replace

from serving.http.keys import Key
from serving.http.quota import LocalQuotas, Quotas
from serving.metrics import Recorder

logger = logging.getLogger("ray.serve.photomaker")
_SAY_S = 60.0  # between two lines that say it


class SharedQuotas:
    """Asks the one place; where it fails or does not answer in time, a local count decides.

    A replica then gives each key its share of the rate, so that all of them together give no more than the key has; a
    key that has one image at a time keeps that one in each.

    Args:
        remote: the place, behind whatever brings calls there; its errors are whatever that raises.
        replicas: of the ingress, at most.
        local: the count of this replica.
        recorder: counts the requests that were decided here.
        timeout_s: for an answer.
    """

    def __init__(
        self, remote: Quotas, replicas: int, local: LocalQuotas, recorder: Recorder, timeout_s: float = 2.0
    ) -> None:
        self.remote, self.replicas, self.local, self.recorder = remote, replicas, local, recorder
        self.timeout_s, self._said = timeout_s, -math.inf
        self._here: set[str] = set()  # leases that were given here

    async def acquire(self, name: str, key: Key, lease: str, images: int) -> tuple[str, float] | None:
        """See `Quotas`."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self.remote.acquire(name, key, lease, images)
        except Exception as error:
            self._say(error)
        refused = await self.local.acquire(name, self.share(key, images), lease, images)
        if refused is None:
            self._here.add(lease)
        return refused

    async def release(self, name: str, lease: str) -> None:
        """See `Quotas`. What cannot be given back runs out by itself."""
        if lease in self._here:
            self._here.discard(lease)
            return await self.local.release(name, lease)
        try:
            async with asyncio.timeout(self.timeout_s):
                await self.remote.release(name, lease)
        except Exception as error:
            self._say(error)

    def share(self, key: Key, images: int) -> Key:
        """This replica's part of a key's limits; never less than one request of so many images."""
        rate, places = key.images_per_minute, key.concurrent_images
        return replace(
            key,
            images_per_minute=None if rate is None else max(images, rate / self.replicas),
            concurrent_images=None if places is None else max(images, places // self.replicas),
        )

    def _say(self, error: Exception) -> None:
        self.recorder.record("pm_local_quotas_total")
        now = time.monotonic()
        if now - self._said > _SAY_S:
            self._said = now
            logger.warning("quotas do not answer (%r): each replica gives keys their share meanwhile", error)
