"""Callbacks of the published interface: what they see after a step, and what they may change for the next."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pm.errors import RequestError
from pm.model.conditioning import Conditioning, TextFeatures
from pm.sample.published_call import Call, guidance_of
from pm.sample.row import Row
from pm.sample.sampler import Sampler

# Tensors of k images; those with "add" have the k of the negative prompt before them while guidance is on.
TENSOR_INPUTS = (
    "latents",
    "prompt_embeds",
    "negative_prompt_embeds",
    "prompt_embeds_text_only",
    "pooled_prompt_embeds_text_only",
    "add_text_embeds",
    "negative_pooled_prompt_embeds",
    "add_time_ids",
    "negative_add_time_ids",
)


_SOURCE = "callback_on_step_end returned"


class StepCallbacks:
    """Both kinds of callbacks of one call."""

    def __init__(self, pipe: Any, call: Call) -> None:
        """`pipe`: what the callbacks get.

        Raises:
            RequestError: a tensor is asked for that there is not.
        """
        self.pipe, self.modern, self.legacy = pipe, call.callback_on_step_end, call.callback
        self.every = call.callback_steps or 1
        # diffusers' own callbacks know what they need
        names = getattr(self.modern, "tensor_inputs", None) or call.callback_on_step_end_tensor_inputs
        self.names: Sequence[str] = [names] if isinstance(names, str) else list(names)
        wrong = [name for name in self.names if name not in TENSOR_INPUTS]
        if wrong:
            raise RequestError(
                f"callback_on_step_end_tensor_inputs: {wrong[0]!r} is not one of {', '.join(TENSOR_INPUTS)}"
            )
        for name in ("callback", "callback_on_step_end"):
            value = getattr(call, name)
            if value is not None and not callable(value):
                raise RequestError(f"{name}={value!r:.100} cannot be called; give a function")

    @property
    def wanted(self) -> Callable[[Sampler], None] | None:
        """For `PhotoMakerPipeline.latents`; None: there are no callbacks."""
        return None if self.modern is None and self.legacy is None else self

    def __call__(self, sampler: Sampler) -> None:
        advanced = sampler.advanced()
        if not advanced:
            return
        step, timestep = advanced[0].index, advanced[0].timestep  # all rows of a call take the same steps
        rows, latents = [one.row for one in advanced], torch.stack([one.latents for one in advanced])
        if self.modern is not None:
            seen = {name: latents if name == "latents" else _read(name, rows, step) for name in self.names}
            scale = self.pipe._guidance_scale
            changed = self.modern(self.pipe, step, timestep, dict(seen))
            if isinstance(changed, Mapping):
                new = {name: value for name, value in changed.items() if seen.get(name) is not value}
                latents = self._apply(sampler, [one.key for one in advanced], rows, new, step, latents)
            elif changed is not None:
                raise RequestError(f"callback_on_step_end must return a dict of tensors or None, not {changed!r:.100}")
            if self.pipe._guidance_scale != scale:
                for one in advanced:
                    sampler.change(one.key, guidance=guidance_of(self.pipe._guidance_scale))
        if self.legacy is not None and step % self.every == 0:
            self.legacy(step, timestep, latents)

    def _apply(
        self, sampler: Sampler, keys: list[int], rows: list[Row], new: Mapping[str, Any], step: int, latents: Tensor
    ) -> Tensor:
        """Change the rows; returns the latents they go on with."""
        for name, value in new.items():
            if name not in TENSOR_INPUTS:
                raise RequestError(f"{_SOURCE} {name!r}, which is not one of {', '.join(TENSOR_INPUTS)}")
            count = len(rows)
            if not isinstance(value, Tensor) or len(value) not in (count, 2 * count):
                shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise RequestError(f"{_SOURCE} {name} of {shape}; it must have a row for each image")
            if name == "latents":
                if value.shape != latents.shape:
                    raise RequestError(f"{_SOURCE} latents {tuple(value.shape)}, not {tuple(latents.shape)}")
                latents = value.float()
                for key, one in zip(keys, latents, strict=True):
                    sampler.change(key, latents=one)
                continue
            for i, (key, row) in enumerate(zip(keys, rows, strict=True)):
                sampler.change(key, **_fields(name, row, value[-count:][i : i + 1], value[i : i + 1], step))
            rows = [sampler.row(key) or row for key, row in zip(keys, rows, strict=True)]
        return latents


def _read(name: str, rows: list[Row], step: int) -> Tensor:
    """A tensor of the rows that took step `step`, those with more tokens padded like them."""
    whole = Conditioning.concat([row.conditioning for row in rows])
    negative_ids = torch.cat(
        [row.conditioning.time_ids if row.negative_time_ids is None else row.negative_time_ids for row in rows]
    )
    guided = any(row.guidance != 1 for row in rows)
    if name == "prompt_embeds":
        return whole.embeds
    if name == "prompt_embeds_text_only":
        return whole.text_embeds
    if name == "pooled_prompt_embeds_text_only":
        return whole.text_pooled
    if name == "negative_prompt_embeds":
        zeros = [Conditioning.from_text(row.negative, row.conditioning.time_ids) for row in rows]
        return Conditioning.concat(zeros).embeds
    negative_pooled = torch.cat([row.negative.pooled for row in rows])
    if name == "negative_pooled_prompt_embeds":
        return negative_pooled
    if name == "negative_add_time_ids":
        return negative_ids
    if name == "add_time_ids":
        return torch.cat([negative_ids, whole.time_ids]) if guided else whole.time_ids
    merged = [step + row.start.index >= row.merge_step for row in rows]
    pooled = torch.stack([(whole.pooled if m else whole.text_pooled)[i] for i, m in enumerate(merged)])
    return torch.cat([negative_pooled, pooled]) if guided else pooled


def _fields(name: str, row: Row, value: Tensor, first: Tensor, step: int) -> dict[str, Any]:
    """Fields of a row that a returned tensor changes: its line [1, ...], and the one of the negative prompt, if any."""
    said, both = row.conditioning, value is not first and not torch.equal(value, first)
    if name == "prompt_embeds":
        same = value.shape[1] == said.mask.shape[1]
        mask = said.mask if same else torch.ones(value.shape[:2], dtype=torch.bool, device=said.mask.device)
        return {"conditioning": replace(said, embeds=value.to(said.embeds), mask=mask)}
    if name == "prompt_embeds_text_only":
        return {"conditioning": replace(said, text_embeds=value.to(said.text_embeds))}
    if name == "pooled_prompt_embeds_text_only":
        return {"conditioning": replace(said, text_pooled=value.to(said.text_pooled))}
    if name == "negative_prompt_embeds":
        return {"negative": TextFeatures(value.to(row.negative.embeds), row.negative.pooled)}
    if name == "negative_pooled_prompt_embeds":
        return {"negative": TextFeatures(row.negative.embeds, value.to(row.negative.pooled))}
    if name == "negative_add_time_ids":
        return {"negative_time_ids": value.to(said.time_ids)}
    if name == "add_time_ids":
        changed: dict[str, Any] = {"conditioning": replace(said, time_ids=value.to(said.time_ids))}
        return changed | ({"negative_time_ids": first.to(said.time_ids)} if both else {})
    pooled: Any = {"pooled" if step + row.start.index >= row.merge_step else "text_pooled": value.to(said.pooled)}
    changed = {"conditioning": replace(said, **pooled)}
    return changed | ({"negative": TextFeatures(row.negative.embeds, first.to(row.negative.pooled))} if both else {})
