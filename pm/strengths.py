"""How people write which LoRAs, and how strong: `style.safetensors:0.8`, or `style.safetensors` at strength 1.

What stands after the last colon is the strength if it is a number; all else belongs to the name, so colons, spaces and
drive letters may be in it. A name that itself ends in a colon and a number needs its strength written: `odd:1:1`.
"""

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

from pm.errors import RequestError

MOST = 10.0  # either way: pictures fall apart long before


def strengths(value: Any) -> dict[str, float]:
    """LoRAs and their strengths, in the order they are written.

    Args:
        value: one text as above, a list of such texts, or a mapping of names to numbers; None: none.

    Raises:
        RequestError: anything else, a strength out of range, or a name given twice.
    """
    if value is None:
        return {}
    if isinstance(value, str):
        value = [value]
    found: dict[str, float] = {}
    items = value.items() if isinstance(value, Mapping) else _pairs(value)
    for name, strength in items:
        check_strength(name, strength)
        if name.strip() in found:
            raise RequestError(f"LoRA {name.strip()} is given twice; add up its strengths")
        found[name.strip()] = float(strength)
    return found


def check_strength(name: Any, strength: Any) -> None:
    """Refuse what is no name, or no strength.

    Raises:
        RequestError: names it.
    """
    if not isinstance(name, str) or not name.strip():
        raise RequestError(f"loras: {name!r} is no name of a LoRA; write style.safetensors:0.8")
    real = isinstance(strength, numbers.Real) and not isinstance(strength, bool)
    if not real or not math.isfinite(strength) or abs(strength) > MOST:
        raise RequestError(
            f"LoRA {name.strip()}: strength {strength!r} must be a number from {-MOST:g} to {MOST:g}; "
            "1 is as it was trained, 0 none"
        )


def written(loras: Mapping[str, float]) -> str:
    """The same as one text, for people and metadata."""
    return ", ".join(f"{name}:{strength:g}" for name, strength in loras.items())


def _pairs(value: Any) -> Iterable[tuple[Any, Any]]:
    if not isinstance(value, Iterable):
        raise RequestError(f"loras={value!r} must be a list such as [style.safetensors:0.8], or a mapping")
    for item in value:
        if not isinstance(item, str):
            raise RequestError(f"loras: {item!r} must be a text such as style.safetensors:0.8")
        name, colon, number = item.rpartition(":")
        try:
            yield (name, float(number)) if colon else (item, 1.0)
        except ValueError:
            yield item, 1.0
