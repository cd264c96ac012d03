"""Least-recently-used cache bounded by bytes."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import RLock
from typing import Any


class ByteCache:
    """Keeps what was used last, up to `limit` bytes; safe between threads.

    An entry larger than the limit is handed out and not kept.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.size = 0
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = RLock()

    def get(self, key: Hashable, load: Callable[[], tuple[Any, int]]) -> Any:
        """The entry of `key`, from `load() -> (value, bytes)` the first time."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key][0]
            value, size = load()
            if size <= self.limit:
                self._entries[key] = (value, size)
                self.size += size
            while self.size > self.limit:
                self.size -= self._entries.popitem(last=False)[1][1]
            return value
