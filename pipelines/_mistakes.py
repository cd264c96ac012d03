"""Hydra's errors in one line that says what to type."""

from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException

from pm.config import unknown_key
from pm.errors import ConfigError
from serving.compose import composed, unknown_choice

_OVERRIDE = "Could not override '"
# Keys of 0.1 -> what to type now.
_RENAMED = {
    "wandb.enabled": "tracker=none (for false) or tracker=wandb",
    "wandb.group": "tracker.run_group=...",
    "tracker.group": "tracker.run_group=...",
    "tracker.enabled": "tracker=none (for false)",
    "train.min_snr_gamma": "loss_weights=min_snr train.loss_weights.gamma=...",
    "marking.rule": "marking=...",
    "verify.rule": "verify=...",
}
_MOVED = {"wandb.": "tracker.", "crop.": "photo.crop."}  # whole groups


def hydra_message(error: Exception, config_name: str, renamed: Mapping[str, str] | None = None) -> str:
    """One line of an error of Hydra or OmegaConf; an unknown key names the valid ones, as they are typed."""
    text, typed = str(error), {key: name for name, key in (renamed or {}).items()}
    if isinstance(error, MissingConfigException):
        return unknown_choice(error)
    if not text.startswith(_OVERRIDE):
        return text.partition("Config search path:")[0].partition("See https://")[0]
    key = text.split("'")[1]
    try:
        node = composed(config_name, resolve=False)
    except ConfigError:
        return text
    if new := _renamed(key, node):
        return f"{key} of version 0.1 is now {new}"
    *parents, last = key.split(".")
    for depth, parent in enumerate(parents):
        if not isinstance(node, dict) or parent not in node:
            last, key = parent, ".".join(parents[: depth + 1])
            break
        node = node[parent]
    return (
        unknown_key(key, last, [typed.get(str(k), str(k)) for k in node] if isinstance(node, dict) else [])
        + "; see --cfg job"
    )


def _renamed(key: str, node: Mapping[str, Any]) -> str | None:
    """What replaces a key of 0.1 in a command with these settings; None: nothing does."""
    new = _RENAMED.get(key)
    for old, prefix in _MOVED.items():
        if new is None and key.startswith(old):
            new = f"{prefix}{key.removeprefix(old)}=..."
    # Only where the command has that group at all.
    return new if new and {key.partition(".")[0], new.partition(".")[0].partition("=")[0]} & node.keys() else None


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
