"""One line on a terminal that lives: what is being done now, and for how long."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def bar(what: str, shown: bool, total: int | None = None, unit: str = "it") -> Iterator[Any]:
    """A progress bar of tqdm, or without `total` a line with the time, that moves every second also between updates.

    Args:
        what: is being done; change it with `set_description`.
        shown: False: nothing is shown, and updates do nothing.
    """
    from tqdm.auto import tqdm

    shape: dict[str, Any] = {} if total is not None else {"bar_format": "{desc}: {elapsed}"}
    with tqdm(total=total, desc=what, unit=unit, disable=not shown, **shape) as line:
        ended = threading.Event()
        ticking = threading.Thread(target=_tick, args=(line, ended), daemon=True)
        if shown and sys.stderr.isatty():  # in a log file every refresh would be a line
            ticking.start()
        try:
            yield line
        finally:
            ended.set()
            if ticking.is_alive():
                ticking.join()


def _tick(line: Any, ended: threading.Event) -> None:
    while not ended.wait(1):
        line.refresh()
