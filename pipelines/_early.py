"""What ends a command from outside: Ctrl-C and SIGTERM while it is still being imported, and a reader that has left."""

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def until_nobody_reads() -> Iterator[None]:
    """End with status 141 and no traceback when what reads our output, as `| head`, has read enough."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        output = select.poll()
        output.register(sys.stdout, 0)
        if not any(event & select.POLLERR for _, event in output.poll(0)):
            raise  # another pipe than ours
        # What is left in the buffer would be written at the exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
