"""Workers for tests of the pool."""

import os
import time
from pathlib import Path

from pm.errors import DataError


class Doubler:
    """Doubles numbers; is lost when a file says so, which is removed, so once."""

    def double(self, value, fatal=""):
        if fatal and Path(fatal).exists():
            Path(fatal).unlink()
            os._exit(1)
        return 2 * value, os.getpid()

    def slow(self, value):
        time.sleep(0.5)
        return self.double(value)

    def refuse(self):
        raise DataError("no such photo; give another")

    def always_lost(self):
        os._exit(1)
