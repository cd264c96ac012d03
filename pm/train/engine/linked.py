"""AdamW's moments within reach from the start: a work-around on a private method of DeepSpeed 0.19's ZeRO 1 and 2.

`tests/distributed/test_workarounds.py` shows the need.
"""

from typing import Any


def link_moments(wrapper: Any) -> None:
    """Link every parameter to its slice of the moments, which must exist.

    DeepSpeed does so when the first parameter group has stepped, and leaves the other groups without.

    Args:
        wrapper: DeepSpeed's optimizer, before its first step.
    """
    wrapper._lazy_init_hp_params_optimizer_state()
