"""Rates and concurrency of each key, counted in images."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from serving.http.keys import Key


@dataclass
class _Account:
    tokens: float
    seen: float
    leases: dict[str, tuple[int, float]] = field(default_factory=dict)  # id -> images, expiry


class Quotas(Protocol):
    """Where quotas are kept: in this process, or in one deployment for all ingress replicas."""

    async def acquire(self, name: str, key: Key, lease: str, images: int) -> tuple[str, float] | None:
        """Take places for `images` under a lease; None, or why not and when to come back (seconds)."""

    async def release(self, name: str, lease: str) -> None:
        """Give the places of a lease back; the rate stays used."""


class LocalQuotas:
    """A token bucket that holds a minute's images, and leases that run out by themselves: an ingress that dies gives
    nothing back."""

    def __init__(self, lease_s: float, retry_after_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.lease_s, self.retry_after_s, self.clock = lease_s, retry_after_s, clock
        self._accounts: dict[str, _Account] = {}

    async def acquire(self, name: str, key: Key, lease: str, images: int) -> tuple[str, float] | None:
        now = self.clock()
        account = self._accounts.setdefault(name, _Account(key.images_per_minute or 0.0, now))
        account.leases = {k: v for k, v in account.leases.items() if v[1] > now}
        if key.concurrent_images is not None:
            busy = sum(count for count, _ in account.leases.values())
            if busy + images > key.concurrent_images:
                return "key_concurrency", self.retry_after_s
        if key.images_per_minute is not None:
            rate = key.images_per_minute / 60
            account.tokens = min(key.images_per_minute, account.tokens + (now - account.seen) * rate)
            account.seen = now
            if account.tokens < images:
                return "key_rate", (images - account.tokens) / rate if rate else 3600.0
            account.tokens -= images
        account.leases[lease] = (images, now + self.lease_s)
        return None

    async def release(self, name: str, lease: str) -> None:
        account = self._accounts.get(name)
        if account is not None:
            account.leases.pop(lease, None)
