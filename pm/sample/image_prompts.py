"""An image prompt beside the identity: an IP-Adapter's photos say how the picture looks, the ID photos who is in it."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from pm.errors import RequestError
from pm.model.conditioning import Conditioning
from pm.model.image_prompt import ImagePrompt
from pm.model.ip_adapter import ImagePrompter
from pm.sample.adapters import Adapter
from pm.sample.pictures import PromptImages, check_image
from pm.sample.prepare import IdPhoto, embed_photos

if TYPE_CHECKING:
    from pm.sample.models import LoadedModels
    from pm.sample.request import Request


def prompter(models: "LoadedModels", name: str | None) -> Adapter:
    """The IP-Adapter of that name; None: the only one.

    Raises:
        RequestError: there is none, or several and none is named, or it is none.
    """
    known = {each: adapter for each in models.adapters if (adapter := models.adapter(each)) and _prompts(adapter)}
    named = ", ".join(known) or "none"
    if name is None and len(known) != 1:
        raise RequestError(f"image_prompt names no adapter; IP-Adapters that are loaded: {named}")
    if name is not None and name not in known:
        raise RequestError(f"image_prompt names {name!r}; IP-Adapters that are loaded: {named}")
    return next(iter(known.values())) if name is None else known[name]


def check_prompt_images(models: "LoadedModels", request: "Request") -> None:
    """Refuse an image prompt that cannot be.

    Raises:
        RequestError: names the first thing.
    """
    prompt = request.image_prompt
    if prompt is None:
        return
    if not isinstance(prompt, PromptImages):
        raise RequestError(f"image_prompt must be PromptImages, not {prompt!r:.60}")
    own, adapter = models.adapter(request.adapter), prompter(models, prompt.adapter)
    if own is not None and _prompts(own):
        raise RequestError(f"adapter {own.name!r} is an image prompt itself; give all its pictures as id_images")
    if not 1 <= len(prompt.images) <= adapter.max_id_images:
        raise RequestError(
            f"image_prompt has {len(prompt.images)} pictures; this IP-Adapter takes 1 to {adapter.max_id_images}"
        )
    for number, image in enumerate(prompt.images, 1):
        check_image(f"picture {number} of image_prompt", image)
    scale: Any = prompt.scale
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 <= scale < float("inf"):
        raise RequestError(f"scale={scale!r} of image_prompt must be 0 or more; 0 is off, 1 as trained")


class Prompting:
    """Makes the image prompts of rows; the pictures of several rows are read once."""

    def __init__(self, models: "LoadedModels") -> None:
        self.models = models
        self._made: dict[tuple, ImagePrompt] = {}

    @torch.no_grad()
    def added(
        self, request: "Request", conditioning: Conditioning, null: ImagePrompt | None
    ) -> tuple[Conditioning, ImagePrompt | None]:
        """A row's conditioning with its image prompt, and what guidance moves away from; as they are without one."""
        prompt = request.image_prompt
        if prompt is None:
            return conditioning, null
        adapter = prompter(self.models, prompt.adapter)
        conditioner: Any = adapter.conditioner
        key = (adapter.name, *map(id, prompt.images))
        if key not in self._made:
            tokens = embed_photos(adapter, [IdPhoto(image, None, ()) for image in prompt.images])
            self._made[key] = conditioner.prompt(tokens, torch.tensor([len(prompt.images)], device=tokens.device))
        made = self._made[key]
        scaled = replace(made, scale=torch.full_like(made.scale, prompt.scale))
        return conditioning.with_image(scaled), conditioner.null_image()


def _prompts(adapter: Adapter) -> bool:
    return isinstance(adapter.conditioner, ImagePrompter)
