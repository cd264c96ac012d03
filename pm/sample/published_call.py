"""The arguments of the published pipelines' call, those of February 2024 (v1) and of July 2024 (V2), and ours."""

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import torch
from torch import Tensor

from pm.errors import RequestError
from pm.model.weighting import Weighting
from pm.sample.people import Person
from pm.sample.published_pictures import Pictures
from pm.sample.request import whole

OUTPUTS = ("pil", "np", "pt", "latent")
_BY_PLACE = 5  # both published versions have them in this order; after them they differ
_INSTEAD = {
    "ip_adapter_image_embeds": "give the pictures themselves as ip_adapter_image",
}


@dataclass(frozen=True, eq=False)
class Call:
    """Arguments of a call. K = B prompts x `num_images_per_prompt`; the images of a prompt lie together.

    Sizes are in pixels, (height, width) and (top, left) as diffusers has them. T is 77 tokens or more, D the text
    width, P the pooled width of the base.
    """

    prompt: str | Sequence[str] | None = None  # with the trigger word after the class word; or a list of B
    prompt_2: str | Sequence[str | None] | None = None  # for the second text encoder; None: the prompt
    height: int | None = None  # None: what the base was trained for
    width: int | None = None
    num_inference_steps: int = 50  # 1 to the base's training steps
    timesteps: Sequence[float] | None = None  # instead of so many steps: the steps themselves, descending
    sigmas: Sequence[float] | None = None  # likewise, as noise levels; the last one is what remains, 0
    denoising_end: float | None = None  # share of the noise levels after which to stop, for a refiner
    guidance_scale: float = 5.0  # 1 or less: off
    negative_prompt: str | Sequence[str | None] | None = None  # one, or B; None: the base's null text
    negative_prompt_2: str | Sequence[str | None] | None = None  # for the second text encoder
    num_images_per_prompt: int = 1
    eta: float = 0.0  # noise that DDIM adds, 0 to 1
    # Draws the noise of all images as diffusers does, or one for each image. None: torch's own.
    generator: torch.Generator | Sequence[torch.Generator] | None = None
    latents: Tensor | None = None  # first latents [K, C, h, w] of unit variance, instead of a generator's
    # Instead of prompts, [B, T, D] and [B, P]; with an adapter also `class_tokens_mask` and the text-only twins.
    prompt_embeds: Tensor | None = None
    negative_prompt_embeds: Tensor | None = None
    pooled_prompt_embeds: Tensor | None = None
    negative_pooled_prompt_embeds: Tensor | None = None
    ip_adapter_image_embeds: Any = None  # refused
    output_type: str = "pil"  # or "np" [K, H, W, 3] in 0..1, "pt" [K, 3, H, W] in 0..1, "latent" [K, C, h, w]
    return_dict: bool = True  # False: a tuple
    cross_attention_kwargs: Mapping[str, Any] | None = None  # {"scale": 0.8}: of all LoRAs
    guidance_rescale: float = 0.0  # 0 to 1
    original_size: tuple[int, int] | None = None  # that SDXL is told; None: the image's own
    crops_coords_top_left: tuple[int, int] = (0, 0)
    target_size: tuple[int, int] | None = None
    negative_original_size: tuple[int, int] | None = None  # None, all three: as for the prompt
    negative_crops_coords_top_left: tuple[int, int] | None = None
    negative_target_size: tuple[int, int] | None = None
    clip_skip: int | None = None  # layers of the text encoders
    # Called with the pipeline, step, timestep and a dict of the named tensors after every step. It may return changed
    # ones, set `pipe._interrupt = True` to stop, or `pipe._guidance_scale`.
    callback_on_step_end: Callable[[Any, int, float, dict], Any] | None = None
    callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",)
    # Photos (Pillow images, uint8 arrays or file names) for all prompts, or B lists of photos. Photos of different
    # people mix them.
    input_id_images: Any = None
    start_merge_step: int = 10  # last step that sees the text only; -1: the identity is seen from the start
    class_tokens_mask: Any = None  # [B, T] bool: where the class word is in `prompt_embeds`
    # [N, E], of the faces on N photos, for adapters that take them (V2), or B of them; None: read from the photos.
    id_embeds: Any = None
    prompt_embeds_text_only: Tensor | None = None  # what the first steps see, [B, T, D]
    pooled_prompt_embeds_text_only: Tensor | None = None  # likewise, [B, P]
    # Called with step, timestep and latents [k, C, h, w] after every `callback_steps` steps.
    callback: Callable[[int, float, Tensor], None] | None = None
    callback_steps: int | None = 1

    # Ours.
    seed: int | None = None  # instead of a generator: image i gets `seed + i`, whatever is made beside it
    id_weights: Any = (
        None  # a number for each photo: the class word alone (0), the photo itself (1), beyond; or B lists
    )
    # auto: photos are prepared as in the adapter's training (published weights: not at all); none: they are taken as
    # they are; more in `pm.sample.identity.preparer`.
    preprocess: str = "auto"
    pick: str = "largest"  # which of several faces of a photo: or left, middle, right
    strict: bool = False  # refuse a photo that cannot be used, instead of leaving it out with a warning
    class_word: str | None = None  # replaces that of every prompt: "girl" for a woman's photos changes her age
    id_strength: float = 1.0  # of all photos at once, 0 to 1.5; in a prompt the class word's weight, "a (man img:1.2)"
    id_start: float | None = None  # share of the steps that see the text only, instead of `start_merge_step`
    id_end: float = 1.0  # share of the steps after which the text is seen alone again
    prompt_weighting: Weighting = "explicit"  # full: also `(hat)` and `[hat]`; none: all is text
    trigger: Literal["required", "auto"] = "required"  # auto: put after the first class word of a prompt without it
    batch_size: int = 8  # images sampled together at most
    adapter: str | None = None  # by name; None: the one loaded last; "base": plain text to image
    # Several for all prompts, `img`, `img2`, ..., instead of `input_id_images`; their photos are prepared alike.
    people: Sequence[Person] = ()
    pictures: Mapping[str, Any] = field(default_factory=dict)  # those of `pm.sample.published_pictures.Pictures`

    @classmethod
    def of(cls, by_place: Sequence[Any], named: Mapping[str, Any]) -> Self:
        """The arguments of one call, checked as far as one alone can be.

        Raises:
            RequestError: names the first that is unknown or cannot be served.
        """
        names, pictures = [each.name for each in dataclasses.fields(cls)][:-1], _picture_names()
        if len(by_place) > _BY_PLACE:
            raise RequestError(
                f"name the arguments after {names[_BY_PLACE - 1]}: the published versions differ in them"
            )
        given = dict(zip(names, by_place, strict=False))
        for name in named:
            if name not in (*names, *pictures):
                near = difflib.get_close_matches(name, [*names, *pictures], n=1)
                raise RequestError(
                    f"unknown argument {name!r}; " + (f"did you mean {near[0]}?" if near else "leave it out")
                )
            if name in given:
                raise RequestError(f"{name} is given by its place and by name; give it once")
        own = {name: value for name, value in named.items() if name in names}
        call = cls(**given, **own, pictures={name: value for name, value in named.items() if name in pictures})
        call._check()
        return call

    def _check(self) -> None:
        for name, instead in _INSTEAD.items():
            if getattr(self, name) is not None:
                raise RequestError(f"{name} is not taken here; {instead}")
        if self.output_type not in OUTPUTS:
            raise RequestError(f"output_type={self.output_type!r} is not one of {', '.join(OUTPUTS)}")
        for name in ("num_images_per_prompt", "batch_size", "callback_steps"):
            value = getattr(self, name)
            if not (name == "callback_steps" and value is None) and whole(name, value) < 1:
                raise RequestError(f"{name}={value} must be at least 1")
        if self.prompt_2 is not None and not _texts(self.prompt_2):
            raise RequestError("prompt_2 must be a text or a list of texts; photos are given as input_id_images=[...]")
        if self.cross_attention_kwargs is not None:
            self.lora_scale  # noqa: B018

    @property
    def lora_scale(self) -> float:
        """Of all LoRAs, from `cross_attention_kwargs`.

        Raises:
            RequestError: something else is in it.
        """
        given = self.cross_attention_kwargs or {}
        if not isinstance(given, Mapping) or set(given) - {"scale"}:
            raise RequestError(
                f"cross_attention_kwargs={given!r:.100} can hold only {{'scale': strength of all LoRAs}} here"
            )
        return float(given.get("scale", 1.0))

    @property
    def guidance(self) -> float:
        """Ours for `guidance_scale`: diffusers switches it off from 1 down."""
        return guidance_of(self.guidance_scale)

    @property
    def steps(self) -> int:
        """How many there are, however they are given."""
        if self.timesteps is not None:
            return len(self.timesteps)
        return self.num_inference_steps if self.sigmas is None else len(self.sigmas) - 1


def guidance_of(scale: Any) -> Any:
    """Our guidance for diffusers' scale, which switches it off from 1 down; what is no such number as it is."""
    return 1.0 if isinstance(scale, int | float) and 0 <= scale <= 1 else scale


def signature() -> inspect.Signature:
    """Of a call, for editors and programs that look which arguments there are."""
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = [p for p in inspect.signature(Call).parameters.values() if p.name != "pictures"]
    parameters += inspect.signature(Pictures).parameters.values()
    return inspect.Signature([own, *(p.replace(kind=kinds[i >= _BY_PLACE]) for i, p in enumerate(parameters))])


def _picture_names() -> list[str]:
    return [each.name for each in dataclasses.fields(Pictures)]


def listed(texts: Any) -> list[Any]:
    """One text as a list of one."""
    return [texts] if isinstance(texts, str) or not isinstance(texts, Sequence) else list(texts)


def for_each(name: str, value: Any, count: int) -> list[Any]:
    """One text, or None, for each of `count` prompts.

    Raises:
        RequestError: no texts.
    """
    values = [value] * count if value is None or isinstance(value, str) else listed(value)
    if not all(text is None or isinstance(text, str) for text in values):
        raise RequestError(f"{name} must be a text or a list of texts, not {values!r:.100}")
    return values


def _texts(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list | tuple) and all(text is None or isinstance(text, str) for text in value)
    )
