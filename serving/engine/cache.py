"""Identity embeddings that are kept from one request to the next."""

import time
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

from cachetools import LRUCache, TTLCache

T = TypeVar("T")


class TenantCache(Generic[T]):
    """Least recently used entries of each tenant, for a limited time; safe between threads.

    Tenants share nothing: neither does one's use push out another's entries, nor does the time of an answer tell
    whether somebody else has sent the same photo.
    """

    def __init__(self, entries: int, tenants: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`entries`: of one tenant; 0 keeps nothing. `ttl_s`: since an entry was made, however often it is used."""
        self.entries, self.tenants, self.ttl_s, self.clock = entries, tenants, ttl_s, clock
        self._kept: LRUCache[str, TTLCache[Hashable, T]] = LRUCache(tenants)
        self._lock = Lock()

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def get(self, tenant: str, key: Hashable) -> T | None:
        """The entry, unless it is unknown or too old."""
        with self._lock:
            mine = self._kept.get(tenant)
            return None if mine is None else mine.get(key)

    def put(self, tenant: str, key: Hashable, value: T) -> None:
        """Keep an entry; old ones make room."""
        if self.entries < 1:
            return
        with self._lock:
            if tenant not in self._kept:
                self._kept[tenant] = TTLCache(self.entries, self.ttl_s, self.clock)
            self._kept[tenant][key] = value

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()

    def expire(self) -> None:
        """Drop what is too old: photos of people are not kept longer than said, also when nobody asks again."""
        with self._lock:
            for tenant, mine in list(self._kept.items()):
                mine.expire()
                if not mine:
                    del self._kept[tenant]
