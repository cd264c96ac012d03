"""Where each of several people may act: the positions of the picture see the identity tokens of their own person alone.

Localised attention at inference, as in FastComposer (Xiao et al. 2023, section 4.2) and StoryMaker (Zhou et al. 2024):
nothing is trained. The words of nobody are seen everywhere. Places are the user's, or found from the attention that the
words for the people are given in steps that see the text alone.

Shapes: B rows, T text tokens after merging, L of the text-only twin, P people, h x w latents, N = h_i * w_i positions
of a layer, H heads, d width of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

HIDDEN = -10000.0  # added to a score, as diffusers does for padding: no weight is left after the softmax
_HALF = 0.5  # share of a position that must be a person's
_FINE, _COARSE = 8, 3  # parts of the shorter side that attention is smoothed over, to compare it and to find its peaks
_NEAR = 1.0  # how much it counts to be near a person's peak, in standard deviations of attention
_STEPS = 16  # halvings of the latents' sides, more than any U-Net has


@dataclass(frozen=True)
class Regions:
    """Whose each token is, and where each person is, of B rows; a row without any owner is not restricted."""

    owner: Tensor  # [B, T] int8, person from 1; 0: nobody's
    text_owner: Tensor  # [B, L] int8, likewise of the text-only twin: the words for the people
    maps: Tensor  # [B, P, h, w] bool, where each may act; disjoint
    watches: "tuple[Watch, ...]" = ()  # of one step alone, so neither selected nor stacked
    _biases: dict[Any, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the U-Net's attention; by this name diffusers passes it to the layers that know it, and to no other."""
        return {"ip_adapter_masks": self}

    def bias(self, positions: int, like: Tensor) -> Tensor:
        """What is added to the scores of a layer of N positions: [B, 1, N, T] of `like`'s dtype, made once."""
        key = positions, like.dtype, like.device
        if key not in self._biases:
            inside = shrunk(self.maps, layer_size(self.maps.shape[-2:], positions)).flatten(2)
            everywhere = torch.ones_like(inside[:, :1])
            seen = torch.take_along_dim(torch.cat([everywhere, inside], 1), self.owner.long()[..., None], dim=1)
            scores = torch.zeros(seen.shape, dtype=like.dtype, device=seen.device).masked_fill(~seen, HIDDEN)
            self._biases[key] = scores.transpose(1, 2)[:, None].to(like.device)
        return self._biases[key]

    def of_text(self) -> "Regions":
        """Those of the text-only twin."""
        return replace(self, owner=self.text_owner, watches=())

    def to(self, device: torch.device | str | None = None) -> "Regions":
        """Move to `device`."""
        return Regions(self.owner.to(device), self.text_owner.to(device), self.maps.to(device))

    def rows(self, index: Any) -> "Regions":
        """Select rows by a slice, a list of integers or an index tensor; the batch axis and the padding stay."""
        return Regions(self.owner[index], self.text_owner[index], self.maps[index])

    def cut(self, length: int) -> "Regions":
        """The first `length` tokens."""
        return replace(self, owner=self.owner[:, :length])

    def padded(self, length: int, plain: int | None = None) -> "Regions":
        """Pad T to `length`, and L to `plain`, with tokens of nobody."""
        more = 0 if plain is None else plain - self.text_owner.shape[1]
        owner = F.pad(self.owner, (0, length - self.owner.shape[1]))
        return replace(self, owner=owner, text_owner=F.pad(self.text_owner, (0, more)))

    def without(self, drop: Tensor) -> "Regions":
        """Rows where `drop` [B] is True have tokens of nobody."""
        return replace(self, owner=self.owner.masked_fill(drop[:, None], 0))

    @staticmethod
    def nowhere(rows: int, length: int, plain: int, size: Sequence[int], device: Any = None) -> "Regions":
        """So many rows that are not restricted, for latents of `size` (h, w)."""
        none = {"dtype": torch.int8, "device": device}
        maps = torch.zeros(rows, 1, *size, dtype=torch.bool, device=device)
        return Regions(torch.zeros(rows, length, **none), torch.zeros(rows, plain, **none), maps)

    @staticmethod
    def concat(items: "Sequence[Regions | None]", rows: Sequence[int], length: int, plain: int) -> "Regions | None":
        """Stack along the batch axis, padded to T = `length` and L = `plain`; None stands for so many free `rows`."""
        known = next((item for item in items if item is not None), None)
        if known is None:
            return None
        size, device = known.maps.shape[-2:], known.maps.device
        most = max(item.maps.shape[1] for item in items if item is not None)
        parts = [
            Regions.nowhere(count, length, plain, size, device) if item is None else item.padded(length, plain)
            for item, count in zip(items, rows, strict=True)
        ]
        maps = [F.pad(part.maps, (0, 0, 0, 0, 0, most - part.maps.shape[1])) for part in parts]
        owner, plain_owner = (torch.cat([getattr(part, name) for part in parts]) for name in ("owner", "text_owner"))
        return Regions(owner, plain_owner, torch.cat(maps))


class Watch:
    """Sees how much cross-attention gives the words for people in one row, in the calls of the U-Net that have it."""

    def __init__(self, line: int, owner: Tensor, given: Tensor) -> None:
        """`line`: of the call's batch. `owner` [L] int8: of its tokens. `given` [P, h, w] float32: is added to."""
        numbers = torch.arange(1, given.shape[0] + 1, device=owner.device)
        mine = (owner[:, None] == numbers).float()
        self.line, self.given = line, given
        self._shares = mine / mine.sum(0).clamp(min=1)  # [L, P], a mean over each person's tokens

    def see(self, query: Tensor, key: Tensor, mask: Tensor | None, scale: float) -> None:
        """Queries [B, H, N, d] and keys [B, H, T, d] of one layer; `mask` [B, 1 or H, 1 or N, T] is added."""
        scores = query[self.line].float() @ key[self.line].float().transpose(-1, -2) * scale
        weights = (scores if mask is None else scores + mask[self.line].float()).softmax(-1).mean(0)
        seen = (weights[:, : self._shares.shape[0]] @ self._shares).T
        size = self.given.shape[-2:]
        grid = seen.unflatten(-1, layer_size(size, seen.shape[-1]))
        self.given += F.interpolate(grid[None], size, mode="bilinear", align_corners=False)[0]


def shrunk(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps [B, P, H, W] at `size` (h, w): bool [B, P, h, w], disjoint. Who has most of a position, and half at least,
    has it; the first of two with the same."""
    share = F.adaptive_avg_pool2d(maps.float(), (size[0], size[1]))
    order = torch.arange(maps.shape[1], device=maps.device).view(-1, 1, 1)
    first = (share - 1e-4 * order).argmax(1, keepdim=True)
    return (first == order) & (share >= _HALF)


def found_places(given: Tensor) -> Tensor:
    """Who is where, bool [P, h, w] disjoint, from the attention [P, h, w] that the people's words are given.

    A position is of the person whose word it looks at most, compared with how the other positions look at it. What is
    near to where a person stands out is more likely theirs: so places hang together where the words say little.
    """
    people, height, width = given.shape
    short = min(height, width)
    looks = _standard(_smooth(given.float(), short // _FINE))
    others = torch.stack([torch.cat([looks[:i], looks[i + 1 :]]).amax(0) for i in range(people)])
    peaks = _smooth(looks - others, short // _COARSE).flatten(1).argmax(1)
    y, x = torch.arange(height, device=given.device)[:, None], torch.arange(width, device=given.device)
    away = ((y - (peaks // width)[:, None, None]) ** 2 + (x - (peaks % width)[:, None, None]) ** 2).sqrt()
    near = 1 - away / away.sum(0).clamp(min=1)
    return (looks + _NEAR * near).argmax(0) == torch.arange(people, device=given.device)[:, None, None]


def _smooth(maps: Tensor, side: int) -> Tensor:
    """Maps [P, h, w] averaged twice over squares of an odd side."""
    side = max(1, side) | 1
    for _ in range(2):
        maps = F.avg_pool2d(maps[None], side, 1, side // 2, count_include_pad=False)[0]
    return maps


def _standard(maps: Tensor) -> Tensor:
    """Maps [P, h, w], each with mean 0 and variance 1."""
    spread, mean = torch.std_mean(maps, (1, 2), correction=0, keepdim=True)
    return (maps - mean) / spread.clamp(min=1e-12)


def layer_size(size: Sequence[int], positions: int) -> tuple[int, int]:
    """h_i, w_i of the layer with N positions, where latents of `size` (h, w) are halved again and again."""
    height, width = size
    for _ in range(_STEPS):
        if height * width == positions:
            return height, width
        height, width = (height + 1) // 2, (width + 1) // 2
    raise ValueError(f"no layer of a U-Net has {positions} positions of latents {tuple(size)}")
