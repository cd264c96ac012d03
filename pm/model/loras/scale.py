"""How strong a LoRA is: alpha / rank, from the places where files say it."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pm.errors import CheckpointError

_METADATA = "lora_adapter_metadata"  # where diffusers keeps PEFT's settings in a safetensors file
_BESIDE = {"adapter_model.safetensors": "adapter_config.json"}  # PEFT's own two files


@dataclass(frozen=True)
class Scales:
    """PEFT's settings for one layer; without any, a layer's own alpha counts, and without that 1."""

    alpha: float | None = None
    rank: int | None = None
    rooted: bool = False  # rsLoRA (Kalajdzievski 2023): alpha / sqrt(rank)

    def of(self, alpha: float | None, rank: int | None) -> float:
        """The factor of a layer.

        Args:
            alpha: that its own tensors say.
            rank: of its tensors; None: they have none.

        Raises:
            CheckpointError: a rank of 0, or an alpha that is no number.
        """
        if alpha is None:
            alpha, rank = self.alpha, rank if self.rank is None else self.rank
        if alpha is None or rank is None:
            return 1.0
        if rank < 1 or not math.isfinite(alpha):
            raise CheckpointError(f"has alpha {alpha:g} and rank {rank}")
        return alpha / (math.sqrt(rank) if self.rooted else rank)


class PeftSettings:
    """PEFT's settings that came with a file, for each part of a base; none for most files."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """`settings`: as diffusers writes them, `unet.r`, or PEFT, `r`."""
        self._settings = dict(settings)

    @property
    def decomposed(self) -> bool:
        """Any part was trained with DoRA."""
        return any(key.split(".")[-1] == "use_dora" and value for key, value in self._settings.items())

    def layer(self, part: str, name: str) -> Scales:
        """For a layer of the part in the folder `part`.

        Raises:
            CheckpointError: a setting is not what PEFT writes.
        """
        own = {k.removeprefix(f"{part}."): v for k, v in self._settings.items() if k.startswith(f"{part}.")}
        own = own or self._settings
        if not own:
            return Scales()
        try:
            alpha = _patterned(own.get("alpha_pattern"), name, own.get("lora_alpha", own.get("alpha")))
            rank = _patterned(own.get("rank_pattern"), name, own.get("r"))
            return Scales(
                None if alpha is None else float(alpha),
                None if rank is None else int(rank),
                bool(own.get("use_rslora", False)),
            )
        except (TypeError, ValueError, AttributeError, re.error) as error:
            raise CheckpointError(f"has PEFT settings that cannot be read ({error})") from error


def settings_of(metadata: Mapping[str, str], file: Path | None) -> PeftSettings:
    """What stands in the file's metadata, or in PEFT's own file beside it.

    Raises:
        CheckpointError: it is there and no JSON mapping.
    """
    try:
        if _METADATA in metadata:
            return PeftSettings(_mapping(metadata[_METADATA]))
        beside = None if file is None or file.name not in _BESIDE else file.with_name(_BESIDE[file.name])
        if beside is not None and beside.is_file():
            return PeftSettings(_mapping(beside.read_text(encoding="utf-8")))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"has PEFT settings that cannot be read ({error})") from error
    return PeftSettings({})


def _mapping(text: str) -> Mapping[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("no mapping")
    return found


def _patterned(patterns: Mapping[str, Any] | None, name: str, otherwise: Any) -> Any:
    """PEFT's patterns name a layer by the end of its name, or by a regular expression for it."""
    for pattern, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", name):
            return value
    return otherwise
