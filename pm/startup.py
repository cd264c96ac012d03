"""What every process of this project does first."""

import gc


def collect_rarely() -> None:
    """Let Python's garbage collector run once in 100,000 new objects instead of 700.

    torch, diffusers, transformers and Ray bring half a million objects that stay; walking over them again and again
    took a sixth of the time their import takes.
    """
    gc.set_threshold(100_000)
