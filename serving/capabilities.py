"""What a service offers, so that a program, or the studio, need not guess: models, samplers, defaults and limits."""

from collections.abc import Collection, Iterable
from typing import Any

from pm.model.class_words import CLASS_WORDS
from pm.sample.presets import preset, preset_names
from pm.sample.sizes import NAMES
from serving.config import BASE, ServeConfig
from serving.sampling import served_loras

_PEOPLE = ("person", "man", "woman", "boy", "girl")  # first; the others by the alphabet


def capabilities(config: ServeConfig, adapters: Iterable[str], loras: Collection[str]) -> dict[str, Any]:
    """The service in plain values, for JSON.

    Args:
        config: of the service.
        adapters: those served at present.
        loras: likewise.
    """
    models, limits, sampler = list(adapters), config.limits, config.sampler
    words = [*_PEOPLE, *sorted((CLASS_WORDS | set(config.class_words)) - {*_PEOPLE, "any"})]
    return {
        "object": "capabilities",
        "models": models,
        "base": BASE,
        "default_model": models[0],
        "loras": list(loras),
        "controls": list(config.controls),
        "samplers": [name for name in preset_names() if set(served_loras(preset(name))) <= set(loras)],
        "aspects": list(NAMES),
        "class_words": words,
        "defaults": {
            "steps": sampler.steps,
            "guidance_scale": sampler.guidance,
            "negative_prompt": sampler.negative_prompt,
            "merge_fraction": sampler.merge_fraction,
            "preprocess": config.preprocess,
            "pick": config.pick,
        },
        "limits": {
            "images": limits.images,
            "photos": limits.photos,
            "photo_bytes": limits.photo_bytes,
            "body_bytes": limits.body_bytes,
            "prompt_chars": limits.prompt_chars,
            "steps": limits.steps,
            "loras": limits.loras,
            "size": limits.size,
            "request_s": limits.request_s,
        },
        "studio": {
            "prompts": list(config.studio.prompts),
            "styles": [{"name": style.name, "prompt": style.prompt} for style in config.studio.styles],
            "runs": config.studio.runs is not None,
            "data": config.studio.data is not None,
            "edit": config.studio.data is not None and config.studio.edit,
        },
    }
