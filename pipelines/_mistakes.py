"""Hydra's errors in one line that says what to type."""

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from pm.config import unknown_key
from pm.errors import ConfigError

_OVERRIDE = "Could not override '"


def hydra_message(error: Exception, config_name: str) -> str:
    """One line of an error of Hydra or OmegaConf; an unknown key names the valid ones."""
    text = str(error)
    if not text.startswith(_OVERRIDE):
        return text.partition("Config search path:")[0].partition("See https://")[0]
    from serving.compose import composed

    key = text.split("'")[1]
    try:
        node = composed(config_name, resolve=False)
    except ConfigError:
        return text
    *parents, last = key.split(".")
    for depth, parent in enumerate(parents):
        if not isinstance(node, dict) or parent not in node:
            last, key = parent, ".".join(parents[: depth + 1])
            break
        node = node[parent]
    return unknown_key(key, last, list(map(str, node)) if isinstance(node, dict) else []) + "; see --cfg job"


def check_settings(settings: list[str], unknown: list[str]) -> None:
    """Refuse what can be no setting, before Hydra explains its grammar.

    Raises:
        ConfigError: an argument without `key=`, an option that is not Hydra's, a key that Hydra cannot read.
    """
    for option in unknown:
        name = option.lstrip("-").partition("=")[0]
        raise ConfigError(f"unknown option {option}; settings are written without dashes: {name}=...")
    for setting in settings:
        key, equals, _ = setting.partition("=")
        if not equals and not setting.startswith("~"):
            raise ConfigError(
                f"{setting!r} is not a setting; write key=value, and quote a value with spaces: 'prompt=a man img'"
            )
        try:
            OverridesParser.create().parse_override(f"{key}=x" if equals else setting)
        except HydraException:
            raise ConfigError(
                f"{key!r} in {setting!r} is not a key; keys are words of a-z, 0-9, _ and -, with dots between them"
            ) from None
