"""The command line as people type it, in the words of Hydra's grammar.

Hydra reads `name=2024_01_01` as a number and refuses `photo (1).png`, `a=b.safetensors` or `фото.png`. Where a setting
is declared as text, or as a list of text, its value is taken as it is typed unless Hydra reads it as one string, too
(so its quotes, escapes and `${...}` work), or it is `null` or a function of Hydra's. Everything else is Hydra's.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from pipelines._mistakes import check_settings
from pipelines._named import NONE, Named, named_modules
from pipelines._split import split, starts_sweep
from pipelines._types import Kind, kind_of

_FUNCTION = re.compile(r"[a-z_]+\(.*\)", re.DOTALL)


def rewrite(
    arguments: list[str], declared: type, extra: Mapping[str, Any], renamed: Mapping[str, str] | None = None
) -> list[str]:
    """The arguments for Hydra. With `-m`, commas separate the cells of a sweep; quoted or escaped ones do not.

    Args:
        declared, extra: of `kind_of`.
        renamed: names that the command line has for other keys.

    Raises:
        ConfigError: an argument is neither a setting nor an option of Hydra's.
    """
    options, unknown = get_args_parser().parse_known_intermixed_args(arguments)
    settings = [re.sub(r"^\w+(?==)", lambda m: (renamed or {}).get(m[0], m[0]), text) for text in options.overrides]
    check_settings(settings, unknown)
    sweep = options.multirun or any(map(starts_sweep, settings))
    # Hydra wants them together; an option's own value is none of them.
    rest = [argument for argument in arguments if argument not in options.overrides]
    named = named_modules(settings)
    return rest + [as_typed(setting, declared, extra, sweep, named) for setting in settings]


def as_typed(setting: str, declared: type, extra: Mapping[str, Any], sweep: bool = False, named: Named = NONE) -> str:
    """One `key=value` for Hydra, its value quoted where that is needed; `named` is that of `kind_of`."""
    key, equals, value = setting.partition("=")
    if not equals or key.startswith("~"):
        return setting
    kind = kind_of(key.lstrip("+"), declared, extra, named)
    if kind is None:
        return setting if _parsed(setting) else f"{key}={_text(value)}"
    values = split(value) if sweep else [value]
    return f"{key}={','.join(_value(each, kind, sweep) for each in values)}"


def _value(value: str, kind: Kind, sweep: bool) -> str:
    bare = value.strip()
    if kind == "text" or bare in ("", "null") or _is_function(bare) or re.fullmatch(r"\$\{[^{}]*\}", bare):
        return _text(value)
    if bare.startswith("[") and bare.endswith("]"):
        bare = bare[1:-1].strip()
        return f"[{','.join(map(_text, split(bare)))}]" if bare else "[]"
    return f"[{','.join(map(_text, [value] if sweep else split(value)))}]"


def _text(value: str) -> str:
    if re.match(r"\s*~", value):
        value = os.path.expanduser(value.strip())
    override = _parsed(f"x={value}")
    read = override._value if override and not value.endswith("\\") else None  # it would escape what comes next
    if value.strip().lower() in ("", "null") or isinstance(read, str | QuotedString) or _is_function(value.strip()):
        return value
    return QuotedString(text=value, quote=Quote.single).with_quotes()


def _is_function(value: str) -> bool:
    return _FUNCTION.fullmatch(value) is not None and _parsed(f"x={value}") is not None


def _parsed(override: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(override)
    except HydraException:
        return None
