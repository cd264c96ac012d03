"""Least-recently-used cache bounded by bytes."""

from collections.abc import Callable, Hashable
from threading import RLock
from typing import Any

from cachetools import LRUCache


class ByteCache:
    """Keeps what was used last, up to `limit` bytes; safe between threads.

    An entry larger than the limit is handed out and not kept.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._entries: LRUCache[Hashable, tuple[Any, int]] = LRUCache(limit, getsizeof=lambda entry: entry[1])
        self._lock = RLock()

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return int(self._entries.currsize)

    def get(self, key: Hashable, load: Callable[[], tuple[Any, int]]) -> Any:
        """The entry of `key`, from `load() -> (value, bytes)` the first time."""
        with self._lock:
            if key in self._entries:
                return self._entries[key][0]
            value, size = load()
            if size <= self.limit:
                self._entries[key] = (value, size)
            return value
