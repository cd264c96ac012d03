"""Ctrl-C and SIGTERM while a command is still being imported: one line, at once, and no traceback of an import."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

INTERRUPTED, TERMINATED = "interrupted", "stopped by SIGTERM"


def watch_imports() -> None:
    """Until `pipelines._ending` takes over. Nothing has been started yet that would have to be ended in order."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    print(INTERRUPTED if number == signal.SIGINT else TERMINATED, file=sys.stderr, flush=True)
    os._exit(128 + number)  # an exception inside an import may come out as another one
