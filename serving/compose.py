"""What everything that reads `conf/` with Hydra needs first; and composing it without Hydra's command line."""

import functools
from collections.abc import Sequence
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pm.errors import ConfigError
from pm.resources import conf_packages, resource


class InstalledConf(SearchPathPlugin):
    """YAML that other packages bring (`pm.resources.conf_packages`) is found after our own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for package in conf_packages():
            search_path.append("photomaker.conf", f"pkg://{package}")


@functools.cache
def prepare() -> None:
    """Let `conf/` name files of the project as `${root:assets/toon}`, and find the YAML of installed packages."""
    OmegaConf.register_new_resolver("root", lambda path: str(resource(path)), replace=True)
    Plugins.instance().register(InstalledConf)


def composed(config_name: str, overrides: Sequence[str] = (), resolve: bool = True) -> dict[str, Any]:
    """`conf/<config_name>.yaml` with Hydra overrides, as plain values.

    Args:
        resolve: replace interpolations by what they stand for.

    Raises:
        ConfigError: an override names nothing, or a value cannot be.
    """
    prepare()
    hydra, running = GlobalHydra.instance(), GlobalHydra.instance().hydra
    hydra.clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(resource("conf"))):
            return cast(dict[str, Any], OmegaConf.to_container(compose(config_name, list(overrides)), resolve=resolve))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(" ".join(str(error).split())) from error
    finally:
        hydra.hydra = running
