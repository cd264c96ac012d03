"""How a command ends: a user's error, Ctrl-C and SIGTERM are one line each; a defect keeps its traceback."""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from pipelines._early import INTERRUPTED, TERMINATED
from pipelines._mistakes import hydra_message
from pm.errors import PmError


@contextmanager
def ended_in_one_line(config_name: str, renamed: Mapping[str, str] | None = None) -> Iterator[None]:
    """Inside, errors of the user and of Hydra end the process with status 1, Ctrl-C with 130, SIGTERM with 143."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # else Hydra prints errors over several lines and exits
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    except PmError as error:
        fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        fail(hydra_message(error, config_name, renamed))
    except SystemExit as leaving:
        if leaving.code == signal.SIGTERM:  # Ray's own handler, while it starts
            _terminated()
        raise
    except KeyboardInterrupt as interrupt:
        print(": ".join([INTERRUPTED, *map(str, interrupt.args)]), file=sys.stderr, flush=True)
        sys.exit(128 + signal.SIGINT)


def fail(message: str) -> NoReturn:
    """End the command with one line on stderr and status 1."""
    sys.exit(f"error: {' '.join(message.split())}")


def _terminated(*_: object) -> NoReturn:
    print(TERMINATED, file=sys.stderr, flush=True)
    sys.exit(128 + signal.SIGTERM)
