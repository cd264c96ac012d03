"""A set of rows that are denoised together while each has its own prompt, schedule, guidance and position.

Batch generation, evaluation and the server are this one loop: rows join and leave between steps.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.photomaker import predict
from pm.sample.schedule import INPUT_SCALE, NOISE, Plan, advance


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


@dataclass
class _Active:
    """A row on its way."""

    row: Row
    generator: torch.Generator  # its own, on the CPU: its image depends neither on neighbours nor on the device
    latents: Tensor  # [C, h, w] float32
    index: int = 0

    @property
    def merged(self) -> bool:
        return self.index >= self.row.merge_step


class Sampler:
    """Rows that advance together, one U-Net call a step for all that have the same latent size."""

    def __init__(self, unet: nn.Module, max_tokens: int) -> None:
        """`unet`: an SDXL U-Net, with or without an adapter. `max_tokens`: L."""
        self.unet, self.max_tokens = unet, max_tokens
        self._active: dict[int, _Active] = {}
        self._done: dict[int, Tensor] = {}
        self._next = 0
        self._cache: dict[tuple, tuple[tuple, Conditioning]] = {}  # by latent shape

    def __len__(self) -> int:
        """Rows that are not finished."""
        return len(self._active)

    def add(self, row: Row) -> int:
        """Let a row join; returns its key. Its first latents are drawn here, from its own seed."""
        generator = torch.Generator().manual_seed(row.seed)
        latents = torch.randn(row.shape, generator=generator) * row.plan.init_sigma
        key, self._next = self._next, self._next + 1
        conditioning = row.conditioning.to(self.unet.device, self.unet.dtype)
        negative = row.negative.to(self.unet.device, self.unet.dtype)
        moved = replace(row, conditioning=conditioning, negative=negative)
        self._active[key] = _Active(moved, generator, latents.to(self.unet.device))
        return key

    def remove(self, key: int) -> None:
        """Drop a row, finished or not (its client has left). Unknown keys are ignored."""
        self._active.pop(key, None)
        self._done.pop(key, None)

    def position(self, key: int) -> tuple[int, int]:
        """Steps done and steps in all of an unfinished row."""
        active = self._active[key]
        return active.index, active.row.plan.steps

    def finished(self) -> dict[int, Tensor]:
        """Hand out the finished rows once: key → latents [C, h, w] float32."""
        done, self._done = self._done, {}
        return done

    @torch.no_grad()
    def step(self) -> int:
        """Advance every row by one step; returns how many rows there were."""
        groups: dict[tuple, list[int]] = {}
        for key, active in self._active.items():
            groups.setdefault(active.row.shape, []).append(key)
        self._cache = {k: v for k, v in self._cache.items() if k in groups}
        for shape, keys in groups.items():
            self._step_group(shape, keys)
        return sum(map(len, groups.values()))

    def _step_group(self, shape: tuple, keys: list[int]) -> None:
        rows = [self._active[key] for key in keys]
        latents = torch.stack([active.latents for active in rows])
        timesteps = torch.stack([active.row.plan.timesteps[active.index] for active in rows]).to(latents.device)
        table = torch.stack([active.row.plan.table[active.index] for active in rows]).to(latents.device)
        output = self._guided(shape, keys, rows, latents * table[:, INPUT_SCALE].view(-1, 1, 1, 1), timesteps)
        latents = advance(latents, output, table, self._noise(rows, latents))
        for key, active, value in zip(keys, rows, latents.unbind(), strict=True):
            active.latents, active.index = value, active.index + 1
            if active.index == active.row.plan.steps:
                self._done[key] = value
                del self._active[key]

    def _guided(self, shape: tuple, keys: list[int], rows: list[_Active], noisy: Tensor, timesteps: Tensor) -> Tensor:
        """Classifier-free guidance in one U-Net call: all rows, then the unconditional half of those that want it."""
        free = [i for i, active in enumerate(rows) if active.row.guidance != 1]
        conditioning = self._conditioning(shape, keys, rows, free)
        pick = list(range(len(rows))) + free
        noisy = noisy[pick].to(self.unet.dtype)
        output = predict(self.unet, noisy, timesteps[pick], conditioning, max_tokens=self.max_tokens).float()
        conditional = output[: len(rows)]
        if not free:
            return conditional
        scale = conditional.new_tensor([rows[i].row.guidance for i in free]).view(-1, 1, 1, 1)
        unconditional = output[len(rows) :]
        guided = unconditional + scale * (conditional[free] - unconditional)
        return conditional.index_copy(0, torch.tensor(free, device=guided.device), guided)

    def _conditioning(self, shape: tuple, keys: list[int], rows: list[_Active], free: list[int]) -> Conditioning:
        """All rows' conditioning in one; kept from step to step, since it changes only when rows come, go or merge."""
        state = (tuple(keys), tuple(active.merged for active in rows))
        cached = self._cache.get(shape)
        if cached is None or cached[0] != state:
            parts = [active.row.conditioning if active.merged else _text_only(active.row) for active in rows]
            parts += [Conditioning.from_text(rows[i].row.negative, rows[i].row.conditioning.time_ids) for i in free]
            cached = self._cache[shape] = (state, Conditioning.concat(parts))
        return cached[1]

    @staticmethod
    def _noise(rows: list[_Active], latents: Tensor) -> Tensor | None:
        wanted = [float(active.row.plan.table[active.index, NOISE]) > 0 for active in rows]
        if not any(wanted):
            return None
        parts = [
            torch.randn(active.row.shape, generator=active.generator) if want else torch.zeros(active.row.shape)
            for active, want in zip(rows, wanted, strict=True)
        ]
        return torch.stack(parts).to(latents.device)


def _text_only(row: Row) -> Conditioning:
    twin = TextFeatures(row.conditioning.text_embeds, row.conditioning.text_pooled)
    return Conditioning.from_text(twin, row.conditioning.time_ids)
