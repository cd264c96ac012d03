"""The package itself, as seen by one of its files that runs as a script: `python pipelines/train.py`.

Python then looks for modules in this folder instead of the one above, so `import pipelines` finds this file. It puts
that right, and stands for the package.
"""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path[:] = [str(_HERE.parent), *(path for path in sys.path if Path(path or ".").resolve() != _HERE)]
__path__ = [str(_HERE)]

from pipelines._early import watch_imports  # noqa: E402

watch_imports()
