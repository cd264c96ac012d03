"""Which sampler a request asks for, and what it changes of it."""

from dataclasses import fields, replace
from typing import Any, Protocol

from pm.errors import ConfigError, RequestError
from pm.sample.config import SamplerConfig
from pm.sample.presets import lora_name, preset
from pm.strengths import strengths
from serving.config import ServeConfig
from serving.errors import invalid
from serving.jobs import Sampling
from serving.loras import LoraFolder


class Asked(Protocol):
    """The fields of `ImageRequest` that say how to sample."""

    sampler: str | None
    eta: float | None
    guidance_start: float | None
    guidance_end: float | None


def sampler_of(request: Asked, config: ServeConfig) -> SamplerConfig:
    """The service's own sampler or the named one, with the request's changes.

    Raises:
        ApiError: 400; no sampler of that name, or no interval of steps.
    """
    sampler = config.sampler if request.sampler is None else _named(request.sampler)
    own: dict[str, Any] = {name: getattr(request, name) for name in ("eta", "guidance_start", "guidance_end")}
    try:
        return replace(sampler, **{name: value for name, value in own.items() if value is not None})
    except ConfigError as error:
        raise invalid(str(error).replace("sampler.", ""), "guidance_start") from None


def _named(name: str) -> SamplerConfig:
    try:
        return preset(name)
    except RequestError as error:
        raise invalid(str(error)[:600], "sampler") from None


def check_loras(config: ServeConfig) -> None:
    """Refuse a service whose own sampler is for LoRAs that it does not have: every request would be.

    Raises:
        ConfigError: names the first, and where it must be.
    """
    there = LoraFolder(config.loras).files()
    for name in served_loras(config.sampler):
        if name not in there:
            place = config.loras or "the folder that loras= names"
            raise ConfigError(
                f"the sampler is for the LoRA {name}: put {name}.safetensors into {place}, or choose another"
            )


def sampling_of(sampler: SamplerConfig) -> Sampling:
    """What an engine is told of it, beside what jobs always say."""
    names = [field.name for field in fields(Sampling)]
    return Sampling(**{name: getattr(sampler, name) for name in names})


def served_loras(sampler: SamplerConfig) -> dict[str, float]:
    """The LoRAs that a sampler is for, by the names that they have in the service's folder."""
    return {lora_name(place): strength for place, strength in strengths(sampler.loras).items()}
