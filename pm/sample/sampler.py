"""A set of rows that are denoised together while each has its own prompt, schedule, guidance and position.

Batch generation, evaluation and the server are this one loop: rows join and leave between steps.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pm.errors import PmError, RequestError
from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.fused import LoraSwitch, UnetChange
from pm.model.image_prompt import ImagePrompt
from pm.model.loras.beside import RowLoras, added, side_by_side
from pm.sample.controls import RowControl
from pm.sample.found import place_people, watched
from pm.sample.guidance import rescaled
from pm.sample.schedule import advance, clean_estimate
from pm.sample.schedules.base import INPUT_SCALE, NOISE, Plan
from pm.sample.shown import text_only, unconditional
from pm.sample.start import Start
from pm.sample.steering import Steered
from pm.sample.together import fresh_noise, padded_lines, past_of
from pm.sample.unet_input import with_pictures

# Steps between two looks for NaN on a GPU: reading a flag stops its queue of work, and what is not finite stays so.
_CHECK_EVERY = 5

Predict = Callable[[Tensor, Tensor, Conditioning], Tensor]  # noisy [B, C, h, w], timesteps [B] → [B, C, h, w]
_Group = tuple[tuple[int, ...], UnetChange | None]  # what one U-Net call can hold: latent shape and weights


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
    find_people: bool = False  # where its people are is found in the steps before `merge_step`


@dataclass
class _Active:
    """A row on its way."""

    row: Row
    generator: torch.Generator  # its own, on the CPU: its image depends neither on other rows nor on the device
    latents: Tensor  # [C, h, w] float32
    noise: Tensor | None  # [C, h, w] that it began with, as long as some of a picture stays
    index: int
    estimate: Tensor | None = None  # [C, h, w] float32, after the first step
    past: tuple[Tensor, ...] = ()  # the last estimates that its plan looks back at, newest first
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
    def group(self) -> _Group:
        return self.row.shape, self.row.lora


@dataclass(frozen=True)
class Advance:
    """One row's part in the last step."""

    key: int
    index: int  # steps that the row has done before it
    timestep: float
    latents: Tensor  # [C, h, w] float32 after it
    estimate: Tensor  # [C, h, w] float32, the current guess of the finished latents
    row: Row  # what it was computed with


class Sampler(Steered):
    """Rows that advance together, one U-Net call a step for all that have the same latent size and adapter."""

    def __init__(self, unet: Any, predict: Predict, switch: LoraSwitch | None = None, *, isolate: bool = True) -> None:
        """`predict`: one call of `unet`, as its family makes it. `switch`: needed for rows with a `lora`.

        `isolate`: a U-Net call that raises is repeated row by row, and `step` does not raise. Not for a model whose
        calls are collective.
        """
        self.unet, self.predict, self.switch, self.isolate = unet, predict, switch, isolate
        self._active: dict[int, _Active] = {}
        self._done: dict[int, Tensor] = {}
        self._failed: dict[int, PmError] = {}
        self._advanced: list[Advance] = []
        self._next = 0
        self._cache: dict[_Group, tuple[tuple, Conditioning]] = {}

    def __len__(self) -> int:
        """Rows that are not finished."""
        return len(self._active)

    def keys(self) -> list[int]:
        """Keys of the rows that are not finished, in the order they joined."""
        return list(self._active)

    def add(self, row: Row) -> int:
        """Let a row join; returns its key. Its first latents are drawn here, from its own seed."""
        generator = row.generator or torch.Generator().manual_seed(row.seed)
        noise = torch.randn(row.shape, generator=generator) if row.noise is None else row.noise.float()
        key, self._next = self._next, self._next + 1
        conditioning = row.conditioning.to(self.unet.device, self.unet.dtype)
        negative = row.negative.to(self.unet.device, self.unet.dtype)
        null = None if row.null_image is None else row.null_image.to(self.unet.device, self.unet.dtype)
        start, noise = row.start.to(self.unet.device), noise.to(self.unet.device)
        told = None if row.negative_time_ids is None else row.negative_time_ids.to(self.unet.device)
        controls = tuple(control.to(self.unet.device) for control in row.controls)
        own: dict[str, Any] = {
            "conditioning": conditioning,
            "negative": negative,
            "null_image": null,
            "negative_time_ids": told,
        }
        moved = replace(row, start=start, controls=controls, **own)
        kept = None if start.kept is None else noise
        self._active[key] = _Active(moved, generator, start.first(row.plan, noise), kept, start.index)
        return key

    def remove(self, key: int) -> None:
        """Drop a row, finished or not (its client has left). Unknown keys are ignored."""
        for rows in (self._active, self._done, self._failed):
            rows.pop(key, None)

    def position(self, key: int) -> tuple[int, int]:
        """Steps done and steps in all of an unfinished row, without those that its start left out."""
        active = self._active[key]
        return active.index - active.row.start.index, active.row.plan.steps - active.row.start.index

    def estimate(self, key: int) -> Tensor:
        """An unfinished row's current guess of its finished latents, [C, h, w] float32; noise before its first step."""
        active = self._active[key]
        return active.latents if active.estimate is None else active.estimate

    def advanced(self) -> list[Advance]:
        """What the last step did, row by row, also of the rows it finished."""
        return self._advanced

    def finished(self) -> dict[int, Tensor]:
        """Hand out the finished rows once: key → latents [C, h, w] float32."""
        done, self._done = self._done, {}
        return done

    def failed(self) -> dict[int, PmError]:
        """Hand out the rows that failed, once: key → why. The others were not affected."""
        failed, self._failed = self._failed, {}
        return failed

    @torch.no_grad()
    def step(self) -> int:
        """Advance every row by one step; returns how many rows there were. A row that fails leaves alone."""
        groups: dict[_Group, list[int]] = {}
        for key, active in self._active.items():
            groups.setdefault(active.group, []).append(key)
        for group, keys in groups.items():
            groups[group] = [keys[i] for i in side_by_side([self._active[key].row.loras for key in keys])]
        self._cache = {k: v for k, v in self._cache.items() if k in groups}
        self._advanced = []
        # The group whose adapter is in place goes first: each step then switches once less.
        current = self.switch.active if self.switch else None
        for group in sorted(groups, key=lambda group: group[1] is not current):
            self._step_group(group, groups[group])
        return sum(map(len, groups.values()))

    def _step_group(self, group: _Group, keys: list[int]) -> None:
        try:
            if self.switch is not None:
                self.switch.use(group[1])
            self._advance(group, keys)
        except Exception as error:  # whatever it is, it must not reach rows that did not cause it
            if not self.isolate:
                raise
            self._cache.pop(group, None)
            if len(keys) > 1:  # which row was it? each alone will tell; less memory is needed, too
                for key in keys:
                    self._step_group(group, [key])
            else:
                reason = str(error).strip().splitlines() or [type(error).__name__]
                self._fail(keys[0], f"cannot be sampled ({type(error).__name__}: {reason[0][:200]})", error)

    def _fail(self, key: int, why: str, cause: Exception | None = None) -> None:
        active = self._active.pop(key)
        error = RequestError(f"image with seed {active.row.seed} {why}; step {active.index} of {active.row.plan.steps}")
        error.__cause__ = cause
        self._failed[key] = error

    def _advance(self, group: _Group, keys: list[int]) -> None:
        rows = [self._active[key] for key in keys]
        latents = torch.stack([active.latents for active in rows])
        timesteps = torch.stack([active.row.plan.timesteps[active.index] for active in rows])
        table = padded_lines([active.row.plan.line(active.index, len(active.past)) for active in rows])
        noise = None if not bool((table[:, NOISE] > 0).any()) else table[:, NOISE] > 0
        moved, table = timesteps.to(latents.device), table.to(latents.device)
        output = self._guided(group, keys, rows, latents * table[:, INPUT_SCALE].view(-1, 1, 1, 1), moved)
        estimates = clean_estimate(latents, output, table)
        fresh = None if noise is None else fresh_noise([active.generator for active in rows], noise, latents)
        latents = advance(latents, output, table, fresh, past_of([active.past for active in rows], latents))
        broken = self._broken(rows, latents)
        for i, (key, active) in enumerate(zip(keys, rows, strict=True)):
            if i in broken:
                self._fail(key, "became NaN or infinite; try float32, less guidance or another adapter")
                continue
            active.latents, active.estimate, active.index = latents[i], estimates[i], active.index + 1
            active.past = (estimates[i], *active.past)[: active.row.plan.history]
            if active.noise is not None:
                active.latents = active.row.start.put_back(active.row.plan, active.index, latents[i], active.noise)
            place_people(active)
            done = active.index - active.row.start.index - 1
            self._advanced.append(Advance(key, done, float(timesteps[i]), active.latents, estimates[i], active.row))
            if active.index == active.row.plan.steps:
                self._done[key] = active.latents
                del self._active[key]

    @staticmethod
    def _broken(rows: list[_Active], latents: Tensor) -> set[int]:
        """Which rows are not finite, as far as this step looks; every row is looked at when it is finished."""
        every = 1 if latents.device.type == "cpu" else _CHECK_EVERY
        due = any((active.index + 1) % every == 0 or active.index + 1 == active.row.plan.steps for active in rows)
        if not due:
            return set()
        finite = torch.isfinite(latents).flatten(1).all(1).tolist()
        return {i for i, fine in enumerate(finite) if not fine}

    def _guided(self, group: _Group, keys: list[int], rows: list[_Active], noisy: Tensor, timesteps: Tensor) -> Tensor:
        """Classifier-free guidance in one U-Net call: all rows, then the unconditional half of those that want it."""
        free = [i for i, active in enumerate(rows) if active.guided]
        if rows[-1].row.loras is not None:
            free.reverse()  # both halves of the last rows lie side by side, and one slice of the batch has their LoRAs
        conditioning = self._conditioning(group, keys, rows, free)
        pick = list(range(len(rows))) + free
        # The dtype is the U-Net's, and asking it takes a walk over all modules.
        noisy, timesteps = noisy[pick].to(conditioning.embeds.dtype), timesteps[pick]
        acting = [[each for each in active.row.controls if each.acts[active.index]] for active in rows]
        starts = [active.row.start for active in rows]
        noisy, conditioning = with_pictures(starts, acting, pick, noisy, timesteps, conditioning)
        conditioning = watched(rows, conditioning)
        with added(self.unet, [rows[i].row.loras for i in pick]):
            output = self.predict(noisy, timesteps, conditioning).float()
        conditional = output[: len(rows)]
        if not free:
            return conditional
        scale = conditional.new_tensor([rows[i].row.guidance for i in free]).view(-1, 1, 1, 1)
        unconditional = output[len(rows) :]
        guided = unconditional + scale * (conditional[free] - unconditional)
        shares = [rows[i].row.guidance_rescale for i in free]
        if any(shares):
            guided = rescaled(guided, conditional[free], conditional.new_tensor(shares))
        return conditional.index_copy(0, torch.tensor(free, device=guided.device), guided)

    def _conditioning(self, group: _Group, keys: list[int], rows: list[_Active], free: list[int]) -> Conditioning:
        """All rows' conditioning in one; kept until rows come, go, merge, or begin or end to be guided."""
        state = (tuple(keys), tuple(active.merged for active in rows), tuple(free))
        cached = self._cache.get(group)
        if cached is None or cached[0] != state:
            parts = [active.row.conditioning if active.merged else text_only(active.row) for active in rows]
            parts += [unconditional(rows[i].row) for i in free]
            cached = self._cache[group] = (state, Conditioning.concat(parts))
        return cached[1]
