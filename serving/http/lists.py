"""Lists in forms: "1,0.5", JSON's "[1, 0.5]", or a field that is repeated."""

import json
from typing import Any


def listed(value: Any) -> Any:
    """The values of a field, whichever way they were written; for pydantic, which checks them.

    Raises:
        ValueError: it begins like JSON and is none.
    """
    if isinstance(value, list):
        return [each for part in value for each in (listed(part) if isinstance(part, str) else [part])]
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not text.startswith("["):
        return text.split(",")
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise ValueError(f"{text[:40]} is no list; write 1,0.5 or [1, 0.5]")
    return found
