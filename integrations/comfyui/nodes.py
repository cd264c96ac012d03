"""The nodes: where portraits come from (a server, or the library), and portraits from a batch of photos."""

from typing import Any

import torch

from .server import Server, to_arrays, to_images

SOURCE = "PHOTOMAKER_SOURCE"
CATEGORY = "photomaker"


class PhotoMakerServer:
    """A model of a PhotoMaker server; its API key is read from the environment variable PHOTOMAKER_API_KEY."""

    CATEGORY, FUNCTION, RETURN_TYPES, RETURN_NAMES = CATEGORY, "load", (SOURCE,), ("source",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "url": ("STRING", {"default": "http://127.0.0.1:8000"}),
                "model": ("STRING", {"default": "", "tooltip": "a name of /v1/models; empty: the server's first"}),
            }
        }

    def load(self, url: str, model: str) -> tuple[Server]:
        return (Server(url.strip(), model.strip()),)


class PhotoMakerLoadAdapter:
    """A base and an adapter, loaded into this process by the library."""

    CATEGORY, FUNCTION, RETURN_TYPES, RETURN_NAMES = CATEGORY, "load", (SOURCE,), ("source",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "base": ("STRING", {"default": "stabilityai/stable-diffusion-xl-base-1.0"}),
                "adapter": ("STRING", {"default": "adapter.safetensors", "tooltip": "a file, a folder or a Hub id"}),
                "device": ("STRING", {"default": "auto"}),
                "dtype": (["auto", "float32", "bfloat16", "float16"],),
            }
        }

    def load(self, base: str, adapter: str, device: str, dtype: str) -> tuple[Any]:
        from .library import load

        return (load(base.strip(), adapter.strip(), device.strip(), dtype),)


class PhotoMakerGenerate:
    """Portraits of the person in a batch of photos. Batches of photos of other sizes go into the other inputs."""

    CATEGORY, FUNCTION, RETURN_TYPES, RETURN_NAMES = CATEGORY, "generate", ("IMAGE",), ("portraits",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "source": (SOURCE,),
                "images": ("IMAGE",),
                "prompt": ("STRING", {"multiline": True, "default": "a man img wearing a red hoodie, smiling"}),
                "negative_prompt": ("STRING", {"multiline": True, "default": ""}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**63 - 65, "control_after_generate": True}),
                "steps": ("INT", {"default": 0, "min": 0, "max": 1000, "tooltip": "0: the source's own"}),
                "guidance_scale": ("FLOAT", {"default": 5.0, "min": 0.0, "max": 100.0, "step": 0.1}),
                "width": ("INT", {"default": 0, "min": 0, "max": 8192, "step": 8, "tooltip": "0: the base's own"}),
                "height": ("INT", {"default": 0, "min": 0, "max": 8192, "step": 8, "tooltip": "0: the base's own"}),
                "count": ("INT", {"default": 1, "min": 1, "max": 64, "tooltip": "seeds: seed, seed + 1, ..."}),
            },
            "optional": {
                "images_2": ("IMAGE",),
                "images_3": ("IMAGE",),
                "id_weights": ("STRING", {"default": "", "tooltip": "one for each photo, between commas"}),
                "start_merge_step": ("INT", {"default": -2, "min": -2, "max": 1000, "tooltip": "-2: the source's own"}),
            },
        }

    def generate(
        self,
        source: Any,
        images: torch.Tensor,
        prompt: str,
        negative_prompt: str,
        seed: int,
        steps: int,
        guidance_scale: float,
        width: int,
        height: int,
        count: int,
        images_2: torch.Tensor | None = None,
        images_3: torch.Tensor | None = None,
        id_weights: str = "",
        start_merge_step: int = -2,
    ) -> tuple[torch.Tensor]:
        """Portraits, float32 [count, H, W, 3] in 0..1."""
        photos = [photo for batch in (images, images_2, images_3) if batch is not None for photo in to_arrays(batch)]
        if (width == 0) != (height == 0):
            raise RuntimeError(f"width={width} and height={height}: give both, or 0 for both")
        fields = {
            "negative_prompt": negative_prompt.strip() or None,
            "seed": seed,
            "steps": steps or None,
            "guidance_scale": guidance_scale,
            "size": f"{width}x{height}" if width else None,
            "n": count,
            "id_weights": id_weights.strip() or None,
            "start_merge_step": None if start_merge_step == -2 else start_merge_step,
        }
        return (to_images(source.generate(photos, prompt, fields)),)


NODE_CLASS_MAPPINGS = {
    "PhotoMakerRayServer": PhotoMakerServer,
    "PhotoMakerRayLoadAdapter": PhotoMakerLoadAdapter,
    "PhotoMakerRayGenerate": PhotoMakerGenerate,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "PhotoMakerRayServer": "PhotoMaker server",
    "PhotoMakerRayLoadAdapter": "Load PhotoMaker adapter",
    "PhotoMakerRayGenerate": "PhotoMaker portraits",
}
