"""The parts and settings that scripts read from a pipeline of diffusers, on ours."""

import copy
from typing import Any

import torch
from torch import nn

from pm.errors import ConfigError
from pm.sample.schedule import Schedule
from pm.sample.schedules.base import schedule_like, schedules


class PublishedParts:
    """Diffusers' names for the parts of the base and of the default adapter, and for the settings of the last call."""

    _tokenizers: tuple[Any, ...] = ()  # with the trigger word as a token of its own
    _call: Any = None  # the last

    @property
    def components(self: Any) -> dict[str, Any]:
        """The parts by their names."""
        named = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
        return {name: getattr(self, name) for name in named}

    @property
    def text_encoder(self: Any) -> Any:
        return self.base.text_encoders[0]

    @property
    def text_encoder_2(self: Any) -> Any:
        """None: the base has one only."""
        return self.base.text_encoders[1] if len(self.base.text_encoders) > 1 else None

    @property
    def tokenizer(self: Any) -> Any:
        """A copy of the base's that knows the default adapter's trigger word as one token."""
        return self._with_trigger()[0]

    @property
    def tokenizer_2(self: Any) -> Any:
        """As `tokenizer`; None: the base has one only."""
        found = self._with_trigger()
        return found[1] if len(found) > 1 else None

    def _with_trigger(self: Any) -> tuple[Any, ...]:
        word = self.trigger_word
        if not self._tokenizers or (word and word not in self._tokenizers[0].get_vocab()):
            self._tokenizers = tuple(copy.deepcopy(tokenizer) for tokenizer in self.base.tokenizers)
            for tokenizer in self._tokenizers if word else ():
                tokenizer.add_tokens([word], special_tokens=True)
        return self._tokenizers

    @property
    def vae_scale_factor(self: Any) -> int:
        return self.base.vae_scale_factor

    @property
    def default_sample_size(self: Any) -> int:
        """Side of the latents that the base was trained for."""
        return self.base.latent_size

    @property
    def interrupt(self: Any) -> bool:
        """Whether a callback has set `_interrupt`."""
        return bool(self._interrupt)

    @property
    def guidance_scale(self: Any) -> float:
        """Of the running or last call; likewise the others."""
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self: Any) -> bool:
        return self._guidance_scale > 1

    @property
    def num_timesteps(self: Any) -> int:
        return 0 if self._call is None else self._call.steps

    _num_timesteps = num_timesteps  # diffusers' callbacks read it

    @property
    def guidance_rescale(self: Any) -> float:
        return 0.0 if self._call is None else self._call.guidance_rescale

    @property
    def clip_skip(self: Any) -> int | None:
        return None if self._call is None else self._call.clip_skip

    @property
    def denoising_end(self: Any) -> float | None:
        return None if self._call is None else self._call.denoising_end

    @property
    def cross_attention_kwargs(self: Any) -> Any:
        return None if self._call is None else self._call.cross_attention_kwargs

    @property
    def device(self: Any) -> torch.device:
        return self.base.unet.device

    @property
    def dtype(self: Any) -> torch.dtype:
        return self.base.unet.dtype

    @property
    def unet(self: Any) -> nn.Module:
        return self.base.unet

    @property
    def vae(self: Any) -> nn.Module:
        return self.base.vae

    @property
    def id_encoder(self: Any) -> nn.Module:
        """The default adapter's."""
        return self.photomaker.id_encoder

    @property
    def scheduler(self: Any) -> Any:
        """A diffusers scheduler with our settings; assign another to change it."""
        import diffusers

        return getattr(diffusers, self.schedule.choice.scheduler).from_config(self.schedule.config)

    @scheduler.setter
    def scheduler(self: Any, value: Any) -> None:
        choice = schedule_like(type(value).__name__, value.config)
        if choice is None:
            raise ConfigError(f"scheduler {type(value).__name__} is not supported; use {', '.join(schedules())}")
        self.schedule = Schedule(choice, dict(value.config))
