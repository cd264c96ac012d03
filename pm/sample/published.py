"""The published pipeline's interface: its argument names and diffusers' conventions, on our sampler.

Scripts written for `PhotoMakerStableDiffusionXLPipeline` run with a changed import.
"""

import logging
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pm.errors import RequestError
from pm.model.base import decode_latents
from pm.sample.published_call import Call, for_each, listed, signature
from pm.sample.published_loras import PublishedLoras
from pm.sample.published_parts import PublishedParts
from pm.sample.published_photos import PromptPhotos, people_of, photos_of, weights_of, with_faces
from pm.sample.published_pictures import pictures_of
from pm.sample.published_steps import StepCallbacks
from pm.sample.published_text import PublishedText, given_texts
from pm.sample.request import Request, merge_step_of, whole
from pm.sample.usable import values_kept

_log = logging.getLogger(__name__)


class PublishedInterface(PublishedText, PublishedLoras, PublishedParts):
    """What `PhotoMakerPipeline` shares with the published class; arguments: `pm.sample.published_call.Call`."""

    _quiet = False
    _interrupt = False  # set by a callback: the images are given as they are
    _guidance_scale = 1.0  # of the running or last call; a callback may change it

    def __call__(self: Any, *args: Any, **arguments: Any) -> Any:
        """Images of prompts; returns diffusers' `StableDiffusionXLPipelineOutput`.

        Args:
            args: prompt, prompt_2, height, width, num_inference_steps.
            arguments: these and all others of `pm.sample.published_call.Call`.

        Raises:
            RequestError: one line that says what cannot be served and what to do.
        """
        call = Call.of(args, arguments)
        steps = StepCallbacks(self, call)
        self._interrupt, self._guidance_scale, self._call = False, call.guidance_scale, call
        requests = self._requests(call)
        with self._adapters_at(call.lora_scale):
            latents = self.latents(
                requests, call.batch_size, not self._quiet, steps.wanted, lambda: bool(self._interrupt)
            )
        images = self._output(latents, call.output_type)
        if not call.return_dict:
            return (images,)
        from diffusers.pipelines.stable_diffusion_xl.pipeline_output import StableDiffusionXLPipelineOutput

        return StableDiffusionXLPipelineOutput(images=images)

    __call__.__signature__ = signature()  # type: ignore[attr-defined]

    def _requests(self: Any, call: Call) -> list[Request]:
        count, given = given_texts(call, self.base.pooled_width)
        prompts = [""] * count if call.prompt_embeds is not None else listed(call.prompt)
        how = {"adapter": call.adapter, "preprocess": call.preprocess, "pick": call.pick, "strict": call.strict}
        ready = partial(self.references, read_faces=call.id_embeds is None, **how)
        people = with_faces(photos_of(call.input_id_images, count, ready), call.id_embeds)
        each = self._each_prompt(call, prompts, people)
        extra, width, height = pictures_of(self, call.pictures, *self.drawn_sides(call.width, call.height))
        settings: dict[str, Any] = {
            "steps": call.steps,
            "guidance": call.guidance,
            "eta": call.eta,
            "width": width,
            "height": height,
            "adapter": call.adapter,
            "merge_step": merge_step_of(call.start_merge_step, call.steps) if call.id_start is None else None,
            **{name: getattr(call, name) for name in _IDENTITY},
            "loras": self.call_loras(call.lora_scale),
        }
        settings |= extra | _fine(call) | {"people": people_of(call.people, partial(self.references, **how))}
        repeated = [
            own | fields for own, fields in zip(each, given, strict=True) for _ in range(call.num_images_per_prompt)
        ]
        later = extra["image"] is not None
        noise = self._noise(len(repeated), width, height, call.generator, call.seed, call.latents, later)
        return [Request(**settings, **own, **start) for own, start in zip(repeated, noise, strict=True)]

    def _each_prompt(self: Any, call: Call, prompts: list[str], people: list[PromptPhotos]) -> list[dict[str, Any]]:
        """The fields of `Request` that differ between prompts."""
        count = len(prompts)
        if count == 0:
            raise RequestError("prompt is an empty list; give at least one")
        if call.class_word is not None and not call.class_word.strip():
            raise RequestError("class_word is empty; give a word for the person, for example 'girl'")
        if not all(isinstance(text, str) for text in prompts):
            raise RequestError(f"prompt must be a text or a list of texts, not {prompts!r:.100}")
        texts = {name: for_each(name, getattr(call, name), count) for name in _TEXTS}
        weights = weights_of(call.id_weights, count)
        for name, values in (*texts.items(), ("id_weights", weights), ("input_id_images", people)):
            if len(values) != count:
                raise RequestError(f"{name} has {len(values)} entries for {count} prompts; give one, or {count}")
        return [
            {
                "prompt": text,
                "class_word": None if self.trigger_word_of(call.adapter) is None else call.class_word,
                "id_images": [reference.image for reference in photos.references],
                "masks": [reference.mask for reference in photos.references],
                "face_embeds": photos.face_embeds,
                "weights": values_kept("weights", weights[i], photos.references, photos.given),
                **{name: values[i] for name, values in texts.items()},
            }
            for i, (text, photos) in enumerate(zip(prompts, people, strict=True))
        ]

    def _noise(
        self: Any,
        count: int,
        width: int,
        height: int,
        generator: Any,
        seed: int | None,
        latents: Tensor | None,
        later: bool = False,
    ) -> list[dict[str, Any]]:
        """Where each image's noise comes from: fields of `Request`. Drawn as diffusers draws it, unless by seed.

        `later`: each image's own, after the latents of the picture that it starts from.
        """
        if seed is not None:
            if generator is not None or latents is not None:
                raise RequestError("seed is given beside generator or latents; give one of them")
            return [{"seed": whole("seed", seed) + i} for i in range(count)]
        device, dtype = self.device, self.base.unet.dtype
        if generator is None:
            generator = torch.default_generator
            if device.type == "cuda":
                generator = torch.cuda.default_generators[device.index or 0]
        shape = (self.base.latent_channels, height // self.base.vae_scale_factor, width // self.base.vae_scale_factor)
        many = isinstance(generator, list | tuple)
        if not all(isinstance(one, torch.Generator) for one in (generator if many else [generator])):
            raise RequestError(f"generator={generator!r} is no torch.Generator; a number is a seed: seed=...")
        latents = None if latents is None else torch.as_tensor(latents)
        if (many and len(generator) != count) or (latents is not None and latents.shape != (count, *shape)):
            raise RequestError(f"generator and latents must be given for {count} images, latents as {(count, *shape)}")
        if latents is None and later:
            return [{"generator": each} for each in (generator if many else [generator] * count)]
        if latents is None and many:
            latents = torch.cat(
                [torch.randn((1, *shape), generator=g, device=g.device, dtype=dtype) for g in generator]
            )
        elif latents is None:
            latents = _drawn((count, *shape), generator, dtype)
        return [{"noise": latents[i], "generator": generator[i] if many else generator} for i in range(count)]

    def _output(self: Any, latents: list[Tensor], kind: str) -> Any:
        if kind == "pil":
            return [self.decode(one) for one in latents]
        if kind == "latent":
            return torch.stack(latents)
        pixels = torch.cat([decode_latents(self.base, one[None]) for one in latents])
        return pixels if kind == "pt" else pixels.permute(0, 2, 3, 1).cpu().numpy()

    def set_progress_bar_config(self, disable: bool = False, **_: Any) -> None:
        """Switch the progress bar off or on."""
        self._quiet = disable


def _drawn(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)


def _fine(call: Call) -> dict[str, Any]:
    """The finer settings, by our names."""
    return {
        "original_size": call.original_size,
        "crop_corner": call.crops_coords_top_left,
        "target_size": call.target_size,
        "negative_original_size": call.negative_original_size,
        "negative_crop_corner": call.negative_crops_coords_top_left,
        "negative_target_size": call.negative_target_size,
        "clip_skip": 0 if call.clip_skip is None else call.clip_skip,
        "guidance_rescale": call.guidance_rescale,
        "denoising_end": call.denoising_end,
        "timesteps": None if call.timesteps is None else tuple(float(t) for t in call.timesteps),
        "sigmas": None if call.sigmas is None else tuple(float(s) for s in call.sigmas),
    }


_IDENTITY = ("id_strength", "id_start", "id_end", "prompt_weighting", "trigger")
_TEXTS = ("negative_prompt", "prompt_2", "negative_prompt_2")
