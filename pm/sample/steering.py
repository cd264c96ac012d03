"""What may be changed from outside in rows that are on their way."""

from dataclasses import replace
from typing import Any

from torch import Tensor


class Steered:
    """The half of the sampler that callbacks use. `Row` and the like: see `pm.sample.sampler`."""

    _active: dict[int, Any]
    _ended: dict[int, tuple[int, Any]]
    _done: dict[int, Tensor]
    _cache: dict[Any, Any]

    def row(self, key: int) -> Any:
        """The `Row` that an unfinished one is computed with; None: there is none of this key."""
        return self._active[key].row if key in self._active else None

    def change(self, key: int, latents: Tensor | None = None, **fields: Any) -> None:
        """Let a row go on with other latents [C, h, w] or other fields of its `Row`, or be done with other latents.

        Unknown keys are ignored.
        """
        if key in self._done and latents is not None:
            self._done[key] = latents.to(self._done[key])
        active = self._active.get(key) or self._ended.get(key, (0, None))[1]
        if active is None:
            return
        active.latents = active.latents if latents is None else latents.to(active.latents)
        if fields:
            active.row = replace(active.row, **fields)
            active.deep = None  # of what the row was told before
            self._cache.clear()

    def stop(self) -> None:
        """Let all rows be done with what they are now."""
        self._done |= {key: active.latents for key, active in self._active.items()}
        self._active.clear()
