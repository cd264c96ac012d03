"""A set of rows that are denoised together while each has its own prompt, schedule, guidance and position.

Batch generation, evaluation and the server are this one loop: rows join and leave between steps. A step only queues
work on its device: all that it needs is there since the row joined, and what it finds is read when it has arrived.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pm.errors import PmError, RequestError
from pm.model.conditioning import Conditioning
from pm.model.deep_features import DeepFeatures
from pm.model.fused import LoraSwitch
from pm.model.lines import filled, lines
from pm.model.loras.beside import added, side_by_side
from pm.sample.found import watched
from pm.sample.guidance import rescaled
from pm.sample.looks import Look
from pm.sample.row import Active, Advance, Deep, Group, Row, begun
from pm.sample.schedule import advance, clean_estimate
from pm.sample.schedules.base import INPUT_SCALE
from pm.sample.shown import text_only, unconditional
from pm.sample.steering import Steered
from pm.sample.together import fresh_noise, padded_lines, past_of
from pm.sample.unet_input import with_pictures

# Steps that may be queued beyond the one that is computed: with more, a row that joins or leaves would wait for them.
_AHEAD = 1

Predict = Callable[[Tensor, Tensor, Conditioning], Tensor]  # noisy [B, C, h, w], timesteps [B] → [B, C, h, w]


@dataclass(frozen=True)
class _Call:
    """What U-Net calls of the same rows share, until one comes, goes, merges, or begins or ends to be guided."""

    state: tuple
    free: list[int]  # the rows that have an unconditional half
    conditioning: Conditioning  # of all rows, then of those
    scale: Tensor  # [F, 1, 1, 1], guidance of those
    shares: Tensor | None  # [F] of `rescaled`; None: none has any


class Sampler(Steered):
    """Rows that advance together, one U-Net call a step for all that have the same latent size and adapter."""

    def __init__(
        self,
        unet: Any,
        predict: Predict,
        switch: LoraSwitch | None = None,
        deep: DeepFeatures | None = None,
        *,
        isolate: bool = True,
    ) -> None:
        """`predict`: one call of `unet`, as its family makes it. `switch`: needed for rows with a `lora`; `deep`: for
        rows with a `cache_interval` above 1, which else compute everything in each step.

        `isolate`: a U-Net call that raises is repeated row by row, and `step` does not raise. Not for a model whose
        calls are collective.
        """
        self.unet, self.predict, self.switch, self.deep, self.isolate = unet, predict, switch, deep, isolate
        self._active: dict[int, Active] = {}
        self._ended: dict[int, tuple[int, Active]] = {}  # in which step; not known yet whether it is finite
        self._done: dict[int, Tensor] = {}
        self._failed: dict[int, PmError] = {}
        self._advanced: list[Advance] = []
        self._next, self._steps = 0, 0
        self._looks: deque[Look] = deque()
        self._cache: dict[Group, _Call] = {}

    def __len__(self) -> int:
        """Rows that are not finished."""
        return len(self._active)

    def keys(self) -> list[int]:
        """Keys of the rows that are not finished, in the order they joined."""
        return list(self._active)

    def add(self, row: Row) -> int:
        """Let a row join; returns its key. Its first latents are drawn here, from its own seed."""
        key, self._next = self._next, self._next + 1
        self._active[key] = begun(row, self.unet.device, self.unet.dtype)
        return key

    def remove(self, key: int) -> None:
        """Drop a row, finished or not (its client has left). Unknown keys are ignored."""
        for rows in (self._active, self._ended, self._done, self._failed):
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
        """Hand out the finished rows once: key → latents [C, h, w] float32.

        On a GPU that is when its last step has been computed; while no row is on its way, this waits for it.
        """
        self._settle(wait_for=None if self._active else self._steps)
        done, self._done = self._done, {}
        return done

    def failed(self) -> dict[int, PmError]:
        """Hand out the rows that failed, once: key → why. The others were not affected. Waits as `finished` does."""
        self._settle(wait_for=None if self._active else self._steps)
        failed, self._failed = self._failed, {}
        return failed

    @torch.no_grad()
    def step(self) -> int:
        """Advance every row by one step; returns how many rows there were. A row that fails leaves alone."""
        self._settle(wait_for=self._steps - _AHEAD)
        self._steps += 1
        groups: dict[Group, list[int]] = {}
        for key, active in self._active.items():
            groups.setdefault(active.group, []).append(key)
        for group, keys in groups.items():
            groups[group] = [keys[i] for i in side_by_side([self._active[key].row.loras for key in keys])]
        self._cache = {k: v for k, v in self._cache.items() if k in groups}
        self._advanced = []
        # The group whose adapter is in place goes first: each step then switches once less.
        current = self.switch.active if self.switch else None
        if self.switch is not None:
            self.switch.in_use({change for _, change, _ in groups})
        for group in sorted(groups, key=lambda group: group[1] is not current):
            self._step_group(group, groups[group])
        self._settle()
        self._advanced = [each for each in self._advanced if each.key not in self._failed]
        return sum(map(len, groups.values()))

    def _step_group(self, group: Group, keys: list[int]) -> None:
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
                active = self._active.pop(keys[0])
                why = f"cannot be sampled ({type(error).__name__}: {reason[0][:200]})"
                self._failed[keys[0]] = _failure(active.row, active.index, why, error)

    def _advance(self, group: Group, keys: list[int]) -> None:
        rows = [self._active[key] for key in keys]
        latents = torch.stack([active.latents for active in rows])
        timesteps = torch.stack([active.plan.timesteps[active.index] for active in rows])
        table = padded_lines([active.plan.line(active.index, len(active.past)) for active in rows])
        output = self._guided(group, keys, rows, latents * table[:, INPUT_SCALE].view(-1, 1, 1, 1), timesteps)
        estimates = clean_estimate(latents, output, table)
        drawing = [active.generator if active.row.plan.draws[active.index] else None for active in rows]
        fresh = fresh_noise(drawing, latents) if any(drawing) else None
        latents = advance(latents, output, table, fresh, past_of([active.past for active in rows], latents))
        positions = {key: active.index for key, active in zip(keys, rows, strict=True)}
        self._looks.append(Look(self._steps, positions, torch.isfinite(latents).flatten(1).all(1)))
        for i, (key, active) in enumerate(zip(keys, rows, strict=True)):
            time, done = active.row.plan.times[active.index], active.index - active.row.start.index
            active.advance(latents[i], estimates[i])
            self._advanced.append(Advance(key, done, time, active.latents, estimates[i], active.row))
            if active.index == active.row.plan.steps:
                self._ended[key] = self._steps, active
                del self._active[key]

    def _settle(self, wait_for: int | None = None) -> None:
        """Read what is known of the steps so far: which rows are not finite, and which are done.

        `wait_for`: steps up to this one are waited for; None: none is.
        """
        while self._looks and (self._looks[0].there or (wait_for is not None and self._looks[0].step <= wait_for)):
            look = self._looks.popleft()
            for key in look.broken():
                active = self._active.pop(key, None) or self._ended.pop(key, (0, None))[1]
                if active is not None:
                    why = "became NaN or infinite; try float32, less guidance or another adapter"
                    self._failed[key] = _failure(active.row, look.positions[key], why)
            for key in look.positions:
                if key in self._ended and self._ended[key][0] == look.step:
                    self._done[key] = self._ended.pop(key)[1].latents

    def _guided(self, group: Group, keys: list[int], rows: list[Active], noisy: Tensor, timesteps: Tensor) -> Tensor:
        """Classifier-free guidance in one U-Net call: all rows, then the unconditional half of those that want it."""
        call = self._call(group, keys, rows)
        free, conditioning = call.free, call.conditioning
        pick = list(range(len(rows))) + free
        # The dtype is the U-Net's, and asking it takes a walk over all modules.
        noisy = torch.cat([noisy, lines(noisy, free)]) if free else noisy
        timesteps = torch.cat([timesteps, lines(timesteps, free)]) if free else timesteps
        noisy = noisy.to(conditioning.embeds.dtype)
        acting = [[each for each in active.row.controls if each.acts[active.index]] for active in rows]
        starts = [active.row.start for active in rows]
        noisy, conditioning = with_pictures(starts, acting, pick, noisy, timesteps, conditioning)
        conditioning = watched(rows, conditioning)
        with added(self.unet, [rows[i].row.loras for i in pick]):
            output = self._predicted(rows, free, noisy, timesteps, conditioning).float()
        conditional = output[: len(rows)]
        if not free:
            return conditional
        unconditional, told = output[len(rows) :], lines(conditional, free)
        guided = unconditional + call.scale * (told - unconditional)
        if call.shares is not None:
            guided = rescaled(guided, told, call.shares)
        if free == list(range(len(rows))):
            return guided
        # Of each row the guided output or, where it has none, the conditional one.
        place = {i: len(rows) + n for n, i in enumerate(free)}
        return lines(torch.cat([conditional, guided]), [place.get(i, i) for i in range(len(rows))])

    def _predicted(
        self, rows: list[Active], free: list[int], noisy: Tensor, timesteps: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """One call of the U-Net, or of its first level where the rows reuse deep features (all of a group or none)."""
        if self.deep is None or not any(active.caches for active in rows):
            return self.predict(noisy, timesteps, conditioning)
        if rows[0].reuses:
            kept = [active.deep for active in rows if active.deep is not None]
            others = [each.other for each in (kept[i] for i in free) if each.other is not None]
            features = torch.stack([each.own for each in kept] + others)
            return self.deep.first_level(noisy, timesteps, conditioning, features)
        output, features = self.deep.whole(noisy, timesteps, conditioning)
        place = {i: len(rows) + n for n, i in enumerate(free)}
        for i, active in enumerate(rows):
            if active.caches:
                other = features[place[i]] if i in place else None
                active.deep = Deep(active.index, active.merged, features[i], other)
        return output

    def _call(self, group: Group, keys: list[int], rows: list[Active]) -> _Call:
        free = [i for i, active in enumerate(rows) if active.guided]
        if rows[-1].row.loras is not None:
            free.reverse()  # both halves of the last rows lie side by side, and one slice of the batch has their LoRAs
        state = (tuple(keys), tuple(active.merged for active in rows), tuple(free))
        call = self._cache.get(group)
        if call is None or call.state != state:
            parts = [active.row.conditioning if active.merged else text_only(active.row) for active in rows]
            parts += [unconditional(rows[i].row) for i in free]
            device = self.unet.device
            shares = [rows[i].row.guidance_rescale for i in free]
            call = self._cache[group] = _Call(
                state,
                free,
                Conditioning.concat(parts),
                filled([rows[i].row.guidance for i in free], device).view(-1, 1, 1, 1),
                filled(shares, device) if any(shares) else None,
            )
        return call


def _failure(row: Row, index: int, why: str, cause: Exception | None = None) -> PmError:
    error = RequestError(f"image with seed {row.seed} {why}; step {index} of {row.plan.steps}")
    error.__cause__ = cause
    return error
