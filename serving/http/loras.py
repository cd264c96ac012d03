"""LoRAs in requests: read from JSON or from form fields, and known by the names of the service's folder."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pm.errors import RequestError, did_you_mean
from pm.strengths import strengths
from serving.errors import ApiError, invalid


def read_loras(value: Any) -> dict[str, float] | None:
    """What a client wrote: `{"ink": 0.8}`, `["ink:0.8", "oil"]`, or in a form `ink:0.8,oil` or either of these as text.

    Raises:
        ValueError: it is none of these.
    """
    if value is None:
        return None
    try:
        if isinstance(value, Mapping):
            return strengths(value)
        return strengths(_joined(_items(value)))
    except RequestError as error:
        raise ValueError(str(error)) from None


def known_loras(loras: Mapping[str, float] | None, names: Collection[str], most: int) -> tuple[tuple[str, float], ...]:
    """Names and strengths, of LoRAs that this service has, and no more than it takes.

    Raises:
        ApiError: 404 for a name, else 400.
    """
    loras = loras or {}
    if len(loras) > most:
        raise invalid(f"{len(loras)} loras are given; this service takes up to {most} for an image", "loras")
    for name in loras:
        if name not in names:
            shown = repr(name if len(name) <= 60 else name[:57] + "...")
            near = did_you_mean(name, names)
            known = ", ".join(list(names)[:20]) + (", ... (/v1/loras lists all)" if len(names) > 20 else "")
            way_out = f"use {known}" if names else "this service has none"
            raise ApiError(
                404, f"lora {shown} is not here{near or ';'} {way_out}", code="lora_not_found", param="loras"
            )
    return tuple(loras.items())


def _items(value: Any) -> Iterator[Any]:
    """The texts and mappings that a field holds, given once or several times."""
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, str):
            yield each
        elif each.strip()[:1] in ("{", "["):
            try:
                read = json.loads(each)
            except ValueError:
                raise RequestError(f"{each[:60]!r} is no JSON; write ink:0.8,oil or {{'ink': 0.8}}") from None
            yield from read if isinstance(read, list) else [read]
        else:
            yield from (part for part in each.split(",") if part.strip())


def _joined(items: Iterator[Any]) -> Any:
    found = list(items)
    if len(found) == 1 and isinstance(found[0], Mapping):
        return found[0]
    return found
