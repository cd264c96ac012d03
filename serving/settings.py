"""`conf/serve.yaml` with overrides, for those who start without Hydra's command line (`serve deploy`, tests)."""

from collections.abc import Sequence
from pathlib import Path

from pm.config import from_mapping
from pm.errors import ConfigError
from serving.config import ServeConfig

ROOT = Path(__file__).resolve().parents[1]


def load(overrides: Sequence[str] = ()) -> ServeConfig:
    """Compose the configuration.

    Raises:
        ConfigError: an override names nothing, or a value cannot be.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    OmegaConf.register_new_resolver("root", lambda path: str(ROOT / path), replace=True)
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")):
            content = OmegaConf.to_container(compose("serve", list(overrides)), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(" ".join(str(error).split())) from error
    return from_mapping(ServeConfig, content)
