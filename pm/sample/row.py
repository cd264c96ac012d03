"""One image on its way through the sampler: what it needs, and how far it is."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.fused import UnetChange
from pm.model.image_prompt import ImagePrompt
from pm.model.lines import sent
from pm.model.loras.beside import RowLoras
from pm.sample.controls import RowControl
from pm.sample.found import place_people
from pm.sample.schedules.base import Plan
from pm.sample.start import Start

# What one U-Net call can hold: latent shape, weights, and whether deep features are taken from an earlier step.
Group = tuple[tuple[int, ...], UnetChange | None, bool]


@dataclass(frozen=True)
class Row:
    """What one image needs; B = 1 in every tensor."""

    conditioning: Conditioning
    negative: TextFeatures  # what guidance moves away from
    plan: Plan
    guidance: float  # 1: off, and the unconditional half of the U-Net call is not computed
    merge_step: int  # steps before this one see the text only (delayed subject conditioning, paper section 4.1)
    seed: int
    shape: tuple[int, int, int]  # latents [C, h, w]
    lora: UnetChange | None = None  # None: the U-Net as it is
    loras: RowLoras | None = None  # beside that, for this row alone
    merge_end: int | None = None  # steps from this one on see the text only again; None: none does
    # What guidance moves away from beside the text, where the row has an image prompt; at the scale of that.
    null_image: ImagePrompt | None = None
    negative_time_ids: Tensor | None = None  # [1, Q], of what guidance moves away from; None: the row's own
    guidance_rescale: float = 0.0  # share of `rescaled` in the guided output
    noise: Tensor | None = None  # first latents [C, h, w] of unit variance, instead of the seed's
    generator: torch.Generator | None = None  # for the noise of later steps, instead of the seed's
    start: Start = Start()  # at pure noise, unless it says otherwise
    controls: tuple[RowControl, ...] = ()  # what pictures say of where things are
    # Guidance from this step up to that one; others are as with guidance 1. None: at every step.
    guided: tuple[int, int] | None = None
    # Deep features are computed anew after so many steps; with controls or people to be found, in each.
    cache_interval: int = 1
    find_people: bool = False  # where its people are is found in the steps before `merge_step`


@dataclass(frozen=True)
class Deep:
    """Deep features of a row's step, each [C_d, h_d, w_d]."""

    index: int
    merged: bool
    own: Tensor
    other: Tensor | None  # of the unconditional half; None: the step had none


@dataclass
class Active:
    """A row on its way."""

    row: Row
    plan: Plan  # the row's, where it is computed
    generator: torch.Generator  # its own, on the CPU: its image depends neither on other rows nor on the device
    latents: Tensor  # [C, h, w] float32
    noise: Tensor | None  # [C, h, w] that it began with, as long as some of a picture stays
    index: int
    estimate: Tensor | None = None  # [C, h, w] float32, after the first step
    past: tuple[Tensor, ...] = ()  # the last estimates that its plan looks back at, newest first
    deep: "Deep | None" = None  # deep features of an earlier step
    given: Tensor | None = None  # [P, h, w], attention that the words for its people were given so far

    @property
    def merged(self) -> bool:
        end = self.row.merge_end
        return self.row.merge_step <= self.index and (end is None or self.index < end)

    @property
    def guided(self) -> bool:
        """Whether this step needs the unconditional half of the U-Net call."""
        first, end = self.row.guided or (0, self.row.plan.steps)
        return self.row.guidance != 1 and first <= self.index < end

    @property
    def caches(self) -> bool:
        """Whether its steps may take deep features from earlier ones."""
        return self.row.cache_interval > 1 and not self.row.controls and not self.row.find_people

    @property
    def reuses(self) -> bool:
        """Whether this step takes them: those that are there are of what it sees, and not too old."""
        kept = self.deep
        if kept is None or not self.caches or kept.merged != self.merged or (self.guided and kept.other is None):
            return False
        return self.index - kept.index < self.row.cache_interval

    @property
    def group(self) -> Group:
        return self.row.shape, self.row.lora, self.reuses

    def advance(self, latents: Tensor, estimate: Tensor) -> None:
        """Be one step further."""
        self.latents, self.estimate, self.index = latents, estimate, self.index + 1
        self.past = (estimate, *self.past)[: self.plan.history]
        if self.noise is not None:
            self.latents = self.row.start.put_back(self.row.plan, self.index, latents, self.noise)
        place_people(self)


def begun(row: Row, device: torch.device, dtype: torch.dtype) -> Active:
    """A row at its first step, with all that its steps need on the device; its noise comes from its own seed."""
    generator = row.generator or torch.Generator().manual_seed(row.seed)
    noise = torch.randn(row.shape, generator=generator) if row.noise is None else row.noise.float()
    noise, start = sent(noise, device), row.start.to(device)
    told = row.negative_time_ids
    moved = replace(
        row,
        conditioning=row.conditioning.to(device, dtype),
        negative=row.negative.to(device, dtype),
        null_image=None if row.null_image is None else row.null_image.to(device, dtype),
        negative_time_ids=None if told is None else told.to(device),
        start=start,
        controls=tuple(control.to(device) for control in row.controls),
    )
    kept = None if start.kept is None else noise
    return Active(moved, row.plan.to(device), generator, start.first(row.plan, noise), kept, start.index)


@dataclass(frozen=True)
class Advance:
    """One row's part in the last step."""

    key: int
    index: int  # steps that the row has done before it
    timestep: float
    latents: Tensor  # [C, h, w] float32 after it
    estimate: Tensor  # [C, h, w] float32, the current guess of the finished latents
    row: Row  # what it was computed with
