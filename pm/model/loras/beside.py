"""LoRAs beside the weights of a module: each row of a batch gets what its own LoRAs change, and no other row does.

y = W x + sum_i s_i dW_i x, where the LoRAs and their strengths s_i are a row's own. Rows that have the same LoRAs are
computed together, whatever their strengths; rows without any take no part. W is not touched: it may be fused with an
adapter, quantised, or on another device between calls.

Shapes: b rows of a call, K LoRAs of a set, R ranks of all of them in a layer.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pm.model.compiled import as_written
from pm.model.lines import filled
from pm.model.loras.change import Change, LowRank, stacked
from pm.model.loras.file import PartChange

_Place = tuple[torch.device, torch.dtype]
_Joined = list[tuple[Change, tuple[int, ...]]]  # and of which LoRA each column of its scale is; (): it has it already
_STRENGTHS = 4  # whose changes a set keeps


class LoraSet:
    """LoRAs that some rows have together. What is made of them lives as long as the set."""

    def __init__(self, parts: tuple[PartChange, ...]) -> None:
        self.parts = parts
        self.layers = sorted({name for part in parts for name in part.layers})
        self._joined: dict[str, tuple[_Place, _Joined]] = {}
        self._alike: OrderedDict[tuple[float, ...], dict[str, tuple[_Place, _Joined]]] = OrderedDict()

    def joined(self, layer: str, like: Tensor) -> _Joined:
        """The changes of one layer, on the device and in the dtype of its input; those of low rank are one."""
        place = (like.device, like.dtype)
        known = self._joined.get(layer)
        if known is None or known[0] != place:
            known = self._joined[layer] = (place, self._join(layer, place))
        return known[1]

    def alike(self, layer: str, like: Tensor, strengths: tuple[float, ...]) -> _Joined:
        """The same for rows that all have these strengths, which are in the changes of low rank already."""
        layers = self._alike.setdefault(strengths, {})
        self._alike.move_to_end(strengths)
        if len(self._alike) > _STRENGTHS:
            self._alike.popitem(last=False)
        known = layers.get(layer)
        if known is None or known[0] != (like.device, like.dtype):
            joined: _Joined = []
            for change, owners in self.joined(layer, like):
                if isinstance(change, LowRank):
                    scale = filled([strengths[i] for i in owners], like.device, like.dtype)
                    joined.append((change.times(scale), ()))
                else:
                    joined.append((change, owners))
            known = layers[layer] = ((like.device, like.dtype), joined)
        return known[1]

    def _join(self, layer: str, place: _Place) -> _Joined:
        moved = [(i, part.layers[layer].to(*place)) for i, part in enumerate(self.parts) if layer in part.layers]
        low = [(i, change) for i, change in moved if isinstance(change, LowRank)]
        joined: _Joined = [(change, (i,)) for i, change in moved if not isinstance(change, LowRank)]
        if low:
            owners = tuple(i for i, change in low for _ in range(change.down.shape[0]))
            joined.append((stacked([change for _, change in low]), owners))
        return joined


@dataclass(frozen=True)
class RowLoras:
    """The LoRAs of one row, for one module."""

    together: LoraSet
    strengths: tuple[float, ...]  # of each of the set


def side_by_side(rows: Sequence[RowLoras | None]) -> list[int]:
    """The rows by number, those with the same LoRAs together and those without in front; else in their order."""
    first: dict[LoraSet | None, int] = {None: -1}
    for i, row in enumerate(rows):
        first.setdefault(_set_of(row), i)
    return sorted(range(len(rows)), key=lambda i: first[_set_of(rows[i])])


def _set_of(row: RowLoras | None) -> LoraSet | None:
    return None if row is None else row.together


class _Segment:
    """The rows of one call that have the same LoRAs."""

    def __init__(self, together: LoraSet, rows: list[int] | None, strengths: Sequence[tuple[float, ...]]) -> None:
        """`rows`: which of the call; None: all, and `strengths` may then be those of one that stands for each."""
        self.together, self._strengths = together, strengths
        self._runs = [(slice(None), slice(None))] if rows is None else list(_runs(rows))
        self._differ = len(set(strengths)) > 1
        self._scales: dict[tuple[int, ...], Tensor] = {}

    def add(self, layer: str, module: Any, x: Tensor, output: Tensor) -> None:
        """Add the changes of a layer to what it made of `x`, in place. Slices copy nothing, unlike a list of rows."""
        together, first = self.together, self._strengths[0]
        for change, owners in together.joined(layer, x) if self._differ else together.alike(layer, x, first):
            scale = self._scale(owners, x) if owners else None
            for run, own in self._runs:
                change.add(module, x[run], None if scale is None else scale[own], output[run])

    def _scale(self, owners: tuple[int, ...], like: Tensor) -> Tensor:
        """[b, R]: a row's strength for each rank. Most layers of a LoRA have as many, so few of these are made."""
        known = self._scales.get(owners)
        if known is None or (known.device, known.dtype) != (like.device, like.dtype):
            rows = [filled([strengths[i] for i in owners], like.device, like.dtype) for strengths in self._strengths]
            known = self._scales[owners] = torch.stack(rows)
        return known


def _runs(rows: list[int]) -> Iterator[tuple[slice, slice]]:
    """Rows that lie side by side, of the call and of the segment."""
    start = 0
    for i in range(1, len(rows) + 1):
        if i == len(rows) or rows[i] != rows[i - 1] + 1:
            yield slice(rows[start], rows[i - 1] + 1), slice(start, i)
            start = i


@contextmanager
def added(module: nn.Module, rows: Sequence[RowLoras | None]) -> Iterator[None]:
    """Calls of `module` inside have a batch of these rows, and each its own LoRAs. Without gradients.

    A compiled module runs as it is written for such calls: compiled code would not know of them.
    """
    groups: dict[LoraSet, list[int]] = {}
    for i, row in enumerate(rows):
        if row is not None:
            groups.setdefault(row.together, []).append(i)
    segments = [
        _Segment(together, None if len(mine) == len(rows) else mine, [rows[i].strengths for i in mine])  # type: ignore[union-attr]
        for together, mine in groups.items()
    ]
    with _hooked(module, segments):
        yield


@contextmanager
def added_to_all(module: nn.Module, loras: RowLoras | None) -> Iterator[None]:
    """Calls of `module` inside, of any batch, have these LoRAs in every row. Without gradients."""
    with _hooked(module, [] if loras is None else [_Segment(loras.together, None, [loras.strengths])]):
        yield


@contextmanager
def _hooked(module: Any, segments: Sequence[_Segment]) -> Iterator[None]:
    if not segments:
        yield
        return
    by_layer: dict[str, list[_Segment]] = {}
    for segment in segments:
        for layer in segment.together.layers:
            by_layer.setdefault(layer, []).append(segment)
    handles = [module.get_submodule(name).register_forward_hook(_hook(name, own)) for name, own in by_layer.items()]
    try:
        with as_written(module):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(layer: str, segments: Sequence[_Segment]) -> Callable[[Any, tuple[Tensor, ...], Tensor], None]:
    def hook(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        for segment in segments:
            segment.add(layer, module, inputs[0], output)

    return hook
