"""LoRAs of a folder, by name, for the ingress and for the engines; names and files only, no weights."""

import time
from collections.abc import Callable
from pathlib import Path

_FRESH_S = 2.0  # how long a look into the folder is good for


class LoraFolder:
    """Safetensors files of a folder by their path in it without suffix: `ink`, `people/oil`. They may come and go."""

    def __init__(self, folder: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        """`folder`: None: there are no LoRAs."""
        self.folder = None if folder is None else Path(folder).expanduser().absolute()
        self._clock = clock
        self._seen, self._files = -_FRESH_S, dict[str, Path]()

    def files(self) -> dict[str, Path]:
        """File of each name, in the order of the names."""
        if self.folder is not None and self._clock() - self._seen >= _FRESH_S:
            found = sorted(path for path in self.folder.rglob("*.safetensors") if path.is_file())
            self._files = {path.relative_to(self.folder).with_suffix("").as_posix(): path for path in found}
            self._seen = self._clock()
        return self._files
