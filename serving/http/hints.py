"""Names of fields at other servers, and what they are called here."""

import difflib
from collections.abc import Collection

_PHOTO = "photos are sent as image[] in multipart/form-data; nothing is fetched from an address"
_SERVED = "it is a setting of the server (sampler=, sampler.schedule=)"
# diffusers, AUTOMATIC1111's web UI, ComfyUI, Replicate, fal, Stability.
_ELSEWHERE = {
    "num_inference_steps": "steps",
    "inference_steps": "steps",
    "sampling_steps": "steps",
    "num_steps": "steps",
    "guidance": "guidance_scale",
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "true_cfg_scale": "guidance_scale",
    "num_images_per_prompt": "n",
    "num_images": "n",
    "num_outputs": "n",
    "num_samples": "n",
    "n_iter": "n",
    "batch_size": "n",
    "samples": "n",
    "noise_seed": "seed",
    "negative": "negative_prompt",
    "negativeprompt": "negative_prompt",
    "text": "prompt",
    "width": "size",
    "height": "size",
    "aspect_ratio": "size",
    "image_size": "size",
    "resolution": "size",
    "weights": "id_weights",
    "merge_step": "start_merge_step",
    "style_strength": "start_merge_step",
    "style_strength_ratio": "start_merge_step",
    "ip_adapter_scale": "scale",
    "identity_strength": "id_strength",
    "output_quality": "output_compression",
    "format": "output_format",
    "image_format": "output_format",
    "adapter": "model",
    "model_id": "model",
    "checkpoint": "model",
}
_SENTENCES = {
    name: sentence
    for sentence, names in {
        _PHOTO: "url image_url image_urls input_image input_images input_id_images init_image reference_image "
        "main_face_image images images[] file files photo photos",
        _SERVED: "sampler sampler_name sampler_index scheduler scheduler_name schedule eta clip_skip",
    }.items()
    for name in names.split()
}


def unknown_field(name: str, known: Collection[str]) -> str:
    """One line about a field that is not one of `known`."""
    shown, plain = f"unknown parameter {name[:60]!r}", name.lower().removesuffix("[]")
    if plain in _ELSEWHERE:
        return f"{shown}; here it is {_ELSEWHERE[plain]!r}"
    if plain in _SENTENCES:
        return f"{shown}; {_SENTENCES[plain]}"
    near = difflib.get_close_matches(plain, known, n=1)
    return f"{shown}; did you mean {near[0]!r}?" if near else f"{shown}; known are {', '.join(known)}"
