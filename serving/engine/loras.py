"""The LoRAs of the service's folder in an engine: known once a request names them, anew when their file changes."""

import logging
from collections.abc import Iterable
from pathlib import Path

from pm.errors import CheckpointError, RequestError
from pm.sample import PhotoMakerPipeline
from serving.loras import LoraFolder

logger = logging.getLogger("ray.serve")


class ServedLoras:
    """Not safe between threads: `offer` is called where the pipeline samples."""

    def __init__(self, pipeline: PhotoMakerPipeline, folder: LoraFolder) -> None:
        self.pipeline, self.folder = pipeline, folder
        self._versions: dict[str, tuple[int, int]] = {}

    def offer(self, names: Iterable[str]) -> None:
        """Let the pipeline know these, as their files are now.

        Raises:
            RequestError: one is gone, or cannot be used with this base.
        """
        for name in names:
            file = self.folder.files().get(name)
            version = None if file is None else _version(file)
            if file is None or version is None:
                self._forget(name)
                raise RequestError(f"lora {name!r} is not here any more; /v1/loras lists those that are")
            if self._versions.get(name) != version:
                try:
                    self.pipeline.offer_lora(file, name)
                except CheckpointError as error:
                    self._forget(name)
                    logger.error("%s", error)
                    # Where it lies is nobody's business.
                    raise RequestError(str(error).replace(str(file), name)) from None
                self._versions[name] = version

    def _forget(self, name: str) -> None:
        self.pipeline.unload_lora(name)
        self._versions.pop(name, None)


def _version(file: Path) -> tuple[int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
