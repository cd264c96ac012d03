"""`merge=`, the short name of a setting that not all models have."""

from typing import Any

from pipelines._entry import was_given
from pm.errors import ConfigError


def check_merge(cfg: dict[str, Any]) -> None:
    """Refuse `merge=` where the model does not take it from there; raises ConfigError."""
    own = cfg["adapter"].get("merge")
    if was_given("merge") and own != cfg["merge"]:
        instead = "leave it out" if own is None else f"give adapter.merge={cfg['merge']}, or leave it out"
        raise ConfigError(f"merge={cfg['merge']} changes nothing in model={cfg['adapter']['name']}; {instead}")
