"""Control of rows by pictures: what a request says, what a row carries, and what a step adds inside the U-Net."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from pm.errors import RequestError
from pm.model.conditioning import Conditioning
from pm.model.control import Adapter, Control, ControlNet
from pm.model.lines import filled, lines
from pm.model.residuals import Residuals
from pm.photo.pixels import flatten
from pm.sample.picture_config import PREPROCESS, ControlConfig
from pm.sample.pictures import check_image, check_share, fitting_note

_CANNY = 100, 200  # thresholds, those of diffusers' examples and of the canny ControlNets' training


@dataclass(frozen=True, kw_only=True)
class ControlImage(ControlConfig):
    """A control of one request."""

    image: Image.Image  # pose, depth, edges ...: what the control was trained with
    name: str | None = None  # of the control; None: the only one that is loaded


@dataclass(frozen=True)
class RowControl:
    """A control of one row."""

    model: Control
    maps: tuple[Tensor, ...]  # the picture [channels, H, W] of a ControlNet; the feature maps of a T2I-Adapter
    scale: float
    acts: tuple[bool, ...]  # in each step of the row's plan

    def to(self, device: torch.device | str) -> "RowControl":
        """Move the maps."""
        return RowControl(self.model, tuple(each.to(device) for each in self.maps), self.scale, self.acts)


def row_control(model: Control, control: ControlImage, size: tuple[int, int], first: int, steps: int) -> RowControl:
    """A request's control, ready for its row.

    Args:
        model: that the control means.
        control: checked.
        size: width and height of the image, in pixels.
        first: step that the row begins with; shares are of the steps from there.
        steps: of the whole plan.
    """
    picture = control_picture(control, size)
    hint, count = model.hint(picture), steps - first
    maps = tuple(model.features(hint)) if isinstance(model, Adapter) else (hint,)
    # The same comparisons as diffusers', rounding included.
    on = [not (i / count < control.start or (i + 1) / count > control.end) for i in range(count)]
    return RowControl(model, maps, control.scale, (*[False] * first, *on))


def control_picture(control: ControlImage, size: tuple[int, int]) -> Image.Image:
    """What the control sees: the picture at `size`, its middle cut out where the aspects differ, or its edges."""
    picture = ImageOps.fit(flatten(control.image), size, Image.Resampling.LANCZOS)
    return canny(picture) if control.preprocess == "canny" else picture


def canny(picture: Image.Image) -> Image.Image:
    """Edges (Canny 1986), white on black.

    Raises:
        ConfigError: OpenCV is not installed.
    """
    from pm.photo.opencv import import_cv2

    return Image.fromarray(import_cv2("preprocess=canny").Canny(np.asarray(picture), *_CANNY)).convert("RGB")


def check_controls(controls: Sequence[ControlImage]) -> None:
    """Refuse what no control can be.

    Raises:
        RequestError: names the first thing.
    """
    listed: Any = controls
    if not isinstance(listed, list | tuple) or not all(isinstance(each, ControlImage) for each in listed):
        raise RequestError(f"controls must be a list of ControlImage, not {listed!r:.60}")
    for number, control in enumerate(controls, 1):
        name = f"control {number}" if control.name is None else f"control {control.name!r}"
        check_image(f"the picture of {name}", control.image)
        scale: Any = control.scale
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 <= scale < float("inf"):
            raise RequestError(f"scale={scale!r} of {name} must be 0 or more; 0 is off, 1 as trained")
        for key in ("start", "end"):
            check_share(f"{key} of {name}", getattr(control, key))
        if control.start > control.end:
            raise RequestError(f"{name} starts at {control.start:g} and ends at {control.end:g}; start before the end")
        if control.preprocess not in PREPROCESS:
            raise RequestError(f"preprocess={control.preprocess!r} of {name} is not one of {', '.join(PREPROCESS)}")


def control_notes(controls: Sequence[ControlImage], size: tuple[int, int]) -> list[str]:
    """What the user should know of the pictures of controls, for an image of `size`."""
    notes = [fitting_note(f"control image {i}", control.image, size) for i, control in enumerate(controls, 1)]
    return [note for note in notes if note]


def residuals_of(
    rows: Sequence[Sequence[RowControl]],
    pick: Sequence[int],
    noisy: Tensor,
    timesteps: Tensor,
    conditioning: Conditioning,
) -> Residuals | None:
    """What the controls of rows add inside the U-Net in one step; None: nothing. One call for each ControlNet.

    Args:
        rows: of each row, the controls that act in this step.
        pick: which row each of the B lines of the U-Net's call is of; guidance has two of a row.
        noisy: what the U-Net sees of the latents, [B, C, h, w].
        timesteps: [B].
        conditioning: of B lines.
    """
    wanted: dict[Control, list[tuple[int, RowControl]]] = {}
    for line, row in enumerate(pick):
        for control in rows[row]:
            wanted.setdefault(control.model, []).append((line, control))
    skips: list[Tensor] = []
    blocks: list[Tensor] = []
    for model, pairs in wanted.items():
        own = [line for line, _ in pairs]
        at = filled(own, noisy.device, torch.int64)
        maps = [torch.stack(each) for each in zip(*(control.maps for _, control in pairs), strict=True)]
        if isinstance(model, ControlNet):
            maps = model.residuals(lines(noisy, own), lines(timesteps, own), conditioning.rows(at), maps[0])
        scale = filled([control.scale for _, control in pairs], noisy.device)
        spread = functools.partial(_spread, at=at, scale=scale, lines=len(pick))
        place = skips if model.per_step else blocks
        place[:] = _summed(place, [spread(each.to(noisy)) for each in maps])
    return Residuals(tuple(skips), tuple(blocks)) if wanted else None


def _spread(maps: Tensor, at: Tensor, scale: Tensor, lines: int) -> Tensor:
    """Maps [K, ...] of the lines `at`, times their scales, as [B, ...] with zeros elsewhere."""
    return maps.new_zeros(lines, *maps.shape[1:]).index_add(0, at, (maps * scale.view(-1, 1, 1, 1)).to(maps.dtype))


def _summed(known: list[Tensor], more: list[Tensor]) -> list[Tensor]:
    return [a + b for a, b in zip(known, more, strict=True)] if known else more
