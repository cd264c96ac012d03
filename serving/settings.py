"""`conf/serve.yaml` with overrides, for those who start without Hydra's command line (`serve deploy`, tests)."""

from collections.abc import Sequence

from pm.config import from_mapping
from serving.config import ServeConfig


def load(overrides: Sequence[str] = ()) -> ServeConfig:
    """Compose the configuration.

    Raises:
        ConfigError: an override names nothing, or a value cannot be.
    """
    from serving.compose import composed

    return from_mapping(ServeConfig, composed("serve", overrides))
