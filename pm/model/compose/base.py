"""The kind of parts that make a row's identity tokens from the embeddings of its photos (Table 2a of the paper)."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pm.choice import Choice, may_be_named, part_names
from pm.config import from_mapping
from pm.errors import ConfigError

if TYPE_CHECKING:  # configurations are read by programs that need no torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class ComposeChoice(Choice, group="compose", package="pm.model.compose"):
    """How many identity tokens a row gets, and the module that makes them.

    Rows are ragged (`pm.model.ragged`): the M photos of B rows lie one after another, and so do their K tokens.
    """

    name: str

    per_photo: ClassVar[int] = 0  # tokens that each photo adds to its row
    per_row: ClassVar[int] = 0  # tokens that a row has beside those

    def tokens(self, photos: int, rows: int = 1) -> int:
        """K, the tokens of `rows` rows that have `photos` photos in all."""
        return self.per_photo * photos + self.per_row * rows

    def tokens_of_each(self, counts: Tensor) -> Tensor:
        """Tokens of each row, [B] int64, from its number of photos [B]."""
        return self.per_photo * counts + self.per_row

    def build(self, width: int, max_images: int) -> nn.Module:
        """The module, called as (embeds [M, D], counts [B], weights [M]) → (tokens [K, D], strength [K]).

        `weights`: how much each photo counts, 1 is neutral. `strength`: how far each token moves from the class word
        alone (0) to the fused token (1) and beyond. Learned parameters are stored in the adapter under
        `id_encoder.compose.`, and must say something sensible before training.

        Args:
            width: D.
            max_images: N_max, the most photos of a row.
        """
        raise NotImplementedError

    @property
    def label(self) -> str:
        """Name and settings in a few characters, for tables."""
        values = dataclasses.asdict(self)
        rest = ", ".join(f"{key}={value}" for key, value in values.items() if key != "name")
        return f"{self.name} ({rest})" if rest else self.name


def compose_to_text(choice: ComposeChoice) -> str:
    """What an adapter file says of its composer: the name, or JSON where there are settings."""
    values = dataclasses.asdict(choice)
    return choice.name if len(values) == 1 else json.dumps(values)


def compose_from_text(text: str) -> ComposeChoice:
    """The inverse of `compose_to_text`, for a file that may be anybody's.

    It names one of our own composers, one that an installed package offers (entry point in `photomaker.compose`), or a
    module that this program has already imported. Nothing is imported because a file says so.

    Raises:
        ConfigError: any other name, or settings that the composer does not have.
        ValueError: damaged JSON.
    """
    values: Any = json.loads(text) if text.startswith("{") else text
    name = str(values.get("name")) if isinstance(values, dict) else text
    if not may_be_named(ComposeChoice, name):
        raise ConfigError(
            f"compose={name!r} is neither one of {', '.join(part_names(ComposeChoice))} nor a module that is imported; "
            f"if it is yours, import it first (modules=[{name}] on the command line)"
        )
    return from_mapping(ComposeChoice, values, "compose")
