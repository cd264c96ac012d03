"""The published pipeline's interface: its argument names and diffusers' conventions, on our sampler.

Scripts written for `PhotoMakerStableDiffusionXLPipeline` run with a changed import.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pm.errors import ConfigError, RequestError
from pm.model.base import decode_latents
from pm.model.prompt import CLASS_WORDS, parse_prompt
from pm.sample.published_photos import PromptPhotos, photos_of, weights_of, with_faces
from pm.sample.published_pictures import pictures_of
from pm.sample.request import Request, merge_step_of, whole
from pm.sample.sampler import Sampler
from pm.sample.schedule import Schedule
from pm.sample.schedules.base import schedule_like, schedules
from pm.sample.usable import values_kept

_log = logging.getLogger(__name__)
OUTPUTS = ("pil", "np", "pt", "latent")


class PublishedInterface:
    """What `PhotoMakerPipeline` shares with the published class.

    Arguments of a call; K = B prompts x `num_images_per_prompt`, the images of a prompt lie together:

    prompt: with the trigger word after the class word, or a list of B prompts.
    input_id_images: photos (Pillow images, uint8 arrays or file names) for all prompts, or B lists of photos. Photos of
        different people mix them.
    negative_prompt: one, or B.
    num_inference_steps: 1 to the base's training steps.
    guidance_scale: 1: off.
    start_merge_step: last step that sees the text only; the identity is seen after it. -1: from the start.
    generator: draws the noise of all images as diffusers does, or one for each image. Default: torch's own.
    seed: instead of a generator: image i gets `seed + i`, and is the same whatever is made beside it.
    height, width: pixels; default: what the base was trained for.
    output_type: "pil", "np" [K, H, W, 3] in 0..1, "pt" [K, 3, H, W] in 0..1, or "latent" [K, C, h, w].
    id_embeds: [N, E], the embeddings of the faces on N photos, for adapters that take them (V2); or one for each of B
        prompts. None: made of the photos by the adapter's embedder.
    id_weights: a number for each photo, from the class word alone (0) through the photo itself (1) beyond; or B lists.
    preprocess: "auto": photos are prepared as in the adapter's training (published weights: not at all); "none": they
        are taken as they are; more in `pm.sample.identity.preparer`.
    pick: which of several faces of a photo: "largest", "left", "middle" or "right".
    strict: refuse a photo that cannot be used; without it, it is left out with a warning as long as others remain.
    class_word: replace the class word of every prompt: "girl" for a woman's photos changes her age.
    eta: noise that DDIM adds, 0 to 1.
    latents: first latents [K, C, h, w] of unit variance, instead of a generator's.
    original_size, crops_coords_top_left: what SDXL is told of the picture's origin.
    callback: called with step, timestep and latents [k, C, h, w] after every `callback_steps` steps.
    callback_on_step_end: called with the pipeline, step, timestep and {"latents": ...} after every step; what it
        returns is not used.
    batch_size: images sampled together at most.
    adapter: by name; default: the one loaded last; "base": plain text to image.
    return_dict: False gives a tuple.
    image, mask_image, strength, control_image, controlnet_conditioning_scale, control_guidance_start,
        control_guidance_end, ip_adapter_image, ip_adapter_scale: see `pm.sample.published_pictures.Pictures`.
    """

    _quiet = False

    def __call__(
        self: Any,
        prompt: str | Sequence[str],
        input_id_images: Any = None,
        negative_prompt: str | Sequence[str | None] | None = None,
        num_images_per_prompt: int = 1,
        num_inference_steps: int = 50,
        guidance_scale: float = 5.0,
        start_merge_step: int = 10,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        seed: int | None = None,
        height: int | None = None,
        width: int | None = None,
        output_type: str = "pil",
        *,
        id_embeds: Tensor | Sequence[Tensor] | None = None,
        id_weights: Sequence[float] | Sequence[Sequence[float]] | None = None,
        preprocess: str = "auto",
        pick: str = "largest",
        strict: bool = False,
        class_word: str | None = None,
        eta: float = 0.0,
        latents: Tensor | None = None,
        original_size: tuple[int, int] | None = None,
        crops_coords_top_left: tuple[int, int] = (0, 0),
        callback: Callable[[int, float, Tensor], None] | None = None,
        callback_steps: int = 1,
        callback_on_step_end: Callable[[Any, int, float, dict], Any] | None = None,
        batch_size: int = 8,
        adapter: str | None = None,
        return_dict: bool = True,
        **pictures: Any,
    ) -> Any:
        """Images of prompts; returns diffusers' `StableDiffusionXLPipelineOutput`. Arguments: see the class.

        Raises:
            RequestError: one line that says what cannot be served and what to do.
        """
        if output_type not in OUTPUTS:
            raise RequestError(f"output_type={output_type!r} is not one of {', '.join(OUTPUTS)}")
        _at_least_one(num_images_per_prompt=num_images_per_prompt, batch_size=batch_size, callback_steps=callback_steps)
        prompts = _listed(prompt)
        how = {"adapter": adapter, "preprocess": preprocess, "pick": pick, "strict": strict}
        ready = partial(self.references, read_faces=id_embeds is None, **how)
        people = with_faces(photos_of(input_id_images, len(prompts), ready), id_embeds)
        each = self._each_prompt(prompts, people, negative_prompt, id_weights, class_word, adapter)
        extra, width, height = pictures_of(self, pictures, width, height)
        settings: dict[str, Any] = {"steps": num_inference_steps, "guidance": guidance_scale, "eta": eta} | extra
        settings |= {"width": width, "height": height, "crop_corner": crops_coords_top_left, "adapter": adapter}
        settings |= {"merge_step": merge_step_of(start_merge_step, num_inference_steps), "original_size": original_size}
        repeated = [fields for fields in each for _ in range(num_images_per_prompt)]
        noise = self._noise(len(repeated), width, height, generator, seed, latents, later=extra["image"] is not None)
        requests = [Request(**settings, **own, **start) for own, start in zip(repeated, noise, strict=True)]
        on_step = self._on_step(callback, callback_steps, callback_on_step_end)
        images = self._output(self.latents(requests, batch_size, not self._quiet, on_step), output_type)
        if not return_dict:
            return (images,)
        from diffusers.pipelines.stable_diffusion_xl.pipeline_output import StableDiffusionXLPipelineOutput

        return StableDiffusionXLPipelineOutput(images=images)

    def _each_prompt(
        self: Any,
        prompts: list[str],
        people: list[PromptPhotos],
        negatives: Any,
        weights: Any,
        word: str | None,
        adapter: Any,
    ) -> list[dict[str, Any]]:
        """The fields of `Request` that differ between prompts."""
        count = len(prompts)
        if count == 0:
            raise RequestError("prompt is an empty list; give at least one")
        if not all(isinstance(text, str) for text in prompts):
            raise RequestError(f"prompt must be a text or a list of texts, not {prompts!r:.100}")
        negatives = [negatives] * count if negatives is None or isinstance(negatives, str) else _listed(negatives)
        if not all(text is None or isinstance(text, str) for text in negatives):
            raise RequestError(f"negative_prompt must be a text or a list of texts, not {negatives!r:.100}")
        weights = weights_of(weights, count)
        for name, values in (("negative_prompt", negatives), ("id_weights", weights), ("input_id_images", people)):
            if len(values) != count:
                raise RequestError(f"{name} has {len(values)} entries for {count} prompts; give one, or {count}")
        return [
            {
                "prompt": self._with_class_word(text, word, adapter),
                "id_images": [reference.image for reference in photos.references],
                "masks": [reference.mask for reference in photos.references],
                "face_embeds": photos.face_embeds,
                "weights": values_kept("weights", own, photos.references, photos.given),
                "negative_prompt": negative,
                "any_class_word": True,
            }
            for text, photos, own, negative in zip(prompts, people, weights, negatives, strict=True)
        ]

    def _with_class_word(self: Any, prompt: str, word: str | None, adapter: str | None) -> str:
        trigger = self.trigger_word_of(adapter)
        if trigger is None:
            return prompt
        if word is not None and not word.strip():
            raise RequestError("class_word is empty; give a word for the person, for example 'girl'")
        parsed = parse_prompt(prompt, trigger, None)
        if word is None and parsed.class_word.lower() not in CLASS_WORDS:
            _log.warning(f"{parsed.class_word!r} stands before {trigger!r}: is it the word for the person?")
        if word is None:
            return prompt
        start, end = parsed.span
        return f"{parsed.text[:start]}{word} {trigger}{parsed.text[end:]}"

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

    def _on_step(self, legacy: Any, every: int, modern: Any) -> Callable[[Sampler], None] | None:
        if legacy is None and modern is None:
            return None

        def call(sampler: Sampler) -> None:
            rows = sampler.advanced()
            step, timestep = rows[0].index, rows[0].timestep  # all rows of a call take the same steps
            latents = torch.stack([row.latents for row in rows])
            if legacy is not None and step % every == 0:
                legacy(step, timestep, latents)
            if modern is not None:
                modern(self, step, timestep, {"latents": latents})

        return call

    def _output(self: Any, latents: list[Tensor], kind: str) -> Any:
        if kind == "pil":
            return [self.decode(one) for one in latents]
        if kind == "latent":
            return torch.stack(latents)
        pixels = torch.cat([decode_latents(self.base, one[None]) for one in latents])
        return pixels if kind == "pt" else pixels.permute(0, 2, 3, 1).cpu().numpy()

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

    def fuse_lora(self, *_: Any, **__: Any) -> None:
        """Nothing to do: LoRA is always fused here, and each adapter at its full strength."""

    def set_progress_bar_config(self, disable: bool = False, **_: Any) -> None:
        """Switch the progress bar off or on."""
        self._quiet = disable


def _at_least_one(**counts: Any) -> None:
    for name, value in counts.items():
        if whole(name, value) < 1:
            raise RequestError(f"{name}={value} must be at least 1")


def _listed(texts: Any) -> list[Any]:
    return [texts] if isinstance(texts, str) or not isinstance(texts, Sequence) else list(texts)


def _drawn(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)
