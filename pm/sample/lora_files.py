"""LoRAs that a configuration names by their places: checked before any weights are loaded, and told in pictures."""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

from pm.model.base import BaseModel
from pm.model.loras.file import read_lora
from pm.model.loras.layers import BaseLayers
from pm.sample.loras import find_lora
from pm.strengths import written
from pm.weights import fingerprint


class LoraFiles:
    """Checks LoRAs for one base, none of whose parts needs to be loaded."""

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._layers: BaseLayers | None = None
        self._known: set[str] = set()

    def check(self, places: Iterable[str]) -> None:
        """Refuse LoRAs that cannot be used with the base.

        Raises:
            CheckpointError: names the first.
        """
        for place in places:
            if place not in self._known:
                file = find_lora(place)
                self._layers = self._layers or BaseLayers(self._base)
                read_lora(file, self._layers)
                self._known.add(place)


def loras_said(loras: Mapping[str, float]) -> dict[str, object]:
    """What a picture's file says of LoRAs by their places: strengths, and which files they were."""
    if not loras:
        return {}
    return {"loras": written(loras), "loras_sha256": ", ".join(_digest(find_lora(place)) for place in loras)}


def _digest(file: Path) -> str:
    stat = file.stat()
    return _digest_as_of(file, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(64)
def _digest_as_of(file: Path, *_: int) -> str:
    return fingerprint(file)
