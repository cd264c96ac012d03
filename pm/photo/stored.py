"""How photos were prepared, as the metadata of adapters and datasets of all versions say it.

The one place that knows how such settings looked before: every choice had the fields of all others, which were null.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pm.choice import Choice, may_be_named
from pm.config import from_mapping
from pm.errors import ConfigError
from pm.photo.crop import CropConfig
from pm.photo.faces.detect import FaceChoice
from pm.photo.masks.select import MaskChoice

_KINDS: dict[str, type[Choice]] = {"face": FaceChoice, "mask": MaskChoice}
# Settings that came later, with the value that changes nothing.
_SINCE = {"mask": {"max_share": 1.0}}


@dataclass(frozen=True)
class Preparation:
    """How a photo becomes a crop with a mask."""

    face: FaceChoice
    mask: MaskChoice | None
    crop: CropConfig


def read_preparation(values: Mapping[str, Any]) -> Preparation:
    """What a file says, which may be anybody's: it names parts as `pm.choice.may_be_named` allows, and imports nothing.

    Raises:
        ConfigError: it cannot be understood.
    """
    return from_mapping(Preparation, {key: upgraded(key, value) for key, value in values.items()})


def upgraded(group: str, values: Any) -> Any:
    """The settings of a face, a mask or a crop of any version, as this version writes them.

    Raises:
        ConfigError: the name leads to a module that is not imported.
    """
    if not isinstance(values, Mapping):
        return values
    name, kind = str(values.get("name", "")), _KINDS.get(group)
    if "." in name and not (kind and may_be_named(kind, name)):
        raise ConfigError(
            f"{group}={name!r} names a module, and this file is not asked what to import; if it is yours, import it "
            f"first (modules=[{name}] on the command line)"
        )
    known = {key: value for key, value in values.items() if value is not None}
    return {**_SINCE.get(group, {}), **known}
