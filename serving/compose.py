"""What everything that reads `conf/` with Hydra needs first; and composing it without Hydra's command line."""

import functools
from collections.abc import Sequence
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pm.errors import ConfigError, did_you_mean
from pm.resources import conf_choices, conf_packages, resource

# command → its settings that are lists of parts → the group with their YAML
LISTS = {"evaluate": {"metrics": "metric", "methods": "method"}, "train": {"train.objective.terms": "term"}}


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


def filled(config_name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Give the parts in lists, which Hydra's defaults cannot name, the settings of their YAML where none are given.

    Args:
        config_name: of the command.
        values: its settings, plain; Hydra is composing or running.
    """
    for key, group in LISTS.get(config_name, {}).items():
        *parents, last = key.split(".")
        section = functools.reduce(lambda at, name: at[name], parents, values)
        if isinstance(section.get(last), list):  # of what was chosen, not all have one
            section[last] = [_filled(group, part) for part in section[last]]
    return values


def _filled(group: str, part: Any) -> Any:
    given = {"name": part} if isinstance(part, str) else part
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        return part  # refused by name where the settings are read
    try:
        found = compose(f"{group}/{given['name']}")
    except MissingConfigException:  # a part without settings of its own needs no YAML
        return part
    settings = cast(dict[str, Any], OmegaConf.to_container(found[group], resolve=True))
    for key, value in given.items():
        if isinstance(settings.get(key), dict) and "name" in settings[key]:
            value = _filled(key, value)  # a part of the part, such as a metric's face
        elif isinstance(settings.get(key), dict) and isinstance(value, dict):
            value = settings[key] | value  # a section, such as a method's training
        if key != "name":  # the YAML names the module
            settings[key] = value
    return settings


def unknown_choice(error: MissingConfigException) -> str:
    """One line for a YAML that is not there: the group, what was typed, the nearest choice, all choices."""
    group, _, choice = str(error.missing_cfg_file or "").removesuffix(".yaml").rpartition("/")
    valid = sorted({*(error.options or ()), *conf_choices(group)})
    if not group or not valid:
        return " ".join(str(error).split())
    return f"{group}={choice} is no choice{did_you_mean(choice, valid) or ';'} choices of {group}: {', '.join(valid)}"


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
            values = OmegaConf.to_container(compose(config_name, list(overrides)), resolve=resolve)
            return filled(config_name, cast(dict[str, Any], values))
    except MissingConfigException as error:
        raise ConfigError(unknown_choice(error)) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(" ".join(str(error).split())) from error
    finally:
        hydra.hydra = running
