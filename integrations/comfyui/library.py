"""This project's library in ComfyUI's own process as a source of portraits."""

import functools
import inspect
from typing import Any

import numpy as np

# Fields of the API → arguments of the pipeline.
_NAMES = {"n": "num_images_per_prompt", "steps": "num_inference_steps"} | {
    name: name
    for name in ("guidance_scale", "negative_prompt", "seed", "id_weights", "width", "height", "start_merge_step")
}


class Library:
    """A loaded pipeline."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline

    def generate(self, images: list[np.ndarray], prompt: str, fields: dict[str, Any]) -> list[np.ndarray]:
        """As `server.Server.generate`."""
        wanted = dict(fields)
        size = wanted.pop("size", None)
        if size not in (None, "auto"):
            wanted["width"], wanted["height"] = map(int, size.split("x"))
        weights = wanted.pop("id_weights", None)
        if weights is not None:
            wanted["id_weights"] = [float(weight) for weight in weights.split(",")]
        named = {_NAMES[name]: value for name, value in wanted.items() if value is not None}
        usual = inspect.signature(self.pipeline.__call__).parameters["num_inference_steps"].default
        steps = named.get("num_inference_steps", usual)
        named.setdefault("start_merge_step", round(self.pipeline.merge_fraction * steps) - 1)
        found = self.pipeline(prompt, input_id_images=images, **named).images
        return [np.asarray(image) for image in found]


@functools.lru_cache(maxsize=1)  # a second base would need its memory too
def load(base: str, adapter: str, device: str, dtype: str) -> Library:
    """A base with an adapter: files, folders or Hub ids.

    Raises:
        RuntimeError: this project is not installed in ComfyUI's Python.
    """
    try:
        from pm.sample.pipeline import PhotoMakerPipeline
        from pm.sample.run import pick_device, pick_dtype
    except ImportError as error:
        raise RuntimeError(f"the library is not installed in ComfyUI's Python ({error}); use the server node") from None
    chosen = pick_device(device)
    pipeline = PhotoMakerPipeline.from_pretrained(base, adapter, device=chosen, dtype=pick_dtype(dtype, chosen))
    pipeline.set_progress_bar_config(disable=True)
    return Library(pipeline)
