"""Pictures, masks, and bases for inpainting."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image


def picture(seed: int = 0, size: tuple[int, int] = (32, 32)) -> Image.Image:
    """Smooth colours: after a VAE they are still something."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def half(size: tuple[int, int] = (32, 32)) -> Image.Image:
    """A mask: the right half is drawn anew."""
    pixels = np.zeros((size[1], size[0]), dtype=np.uint8)
    pixels[:, size[0] // 2 :] = 255
    return Image.fromarray(pixels)


def clear_right(image: Image.Image) -> Image.Image:
    """Its right half is transparent."""
    found = image.convert("RGBA")
    found.putalpha(half(image.size).point(lambda value: 255 - value))
    return found


def write_inpainting(base: Path, path: Path) -> Path:
    """The same base with a U-Net of random weights that sees mask and masked picture."""
    from diffusers import UNet2DConditionModel

    shutil.copytree(base, path)
    torch.manual_seed(5)
    config = json.loads((base / "unet/config.json").read_text()) | {"in_channels": 9}
    shutil.rmtree(path / "unet")
    UNet2DConditionModel.from_config(config).save_pretrained(path / "unet")
    return path


def write_controlnet(base: Path, path: Path, seed: int = 0) -> Path:
    """A ControlNet of random weights that does change the picture."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    torch.manual_seed(seed)
    net = ControlNetModel.from_unet(
        UNet2DConditionModel.from_pretrained(base / "unet"), conditioning_embedding_out_channels=(16, 32, 96)
    )
    silent = [net.controlnet_cond_embedding.conv_out, *net.controlnet_down_blocks, net.controlnet_mid_block]
    for layer in silent:  # zeros before training
        torch.nn.init.normal_(layer.weight, std=0.2)
    net.save_pretrained(path)
    return path


def write_t2i_adapter(base: Path, path: Path, seed: int = 0, grey: bool = False) -> Path:
    """Likewise a T2I-Adapter, of the kind for SDXL: the tiny U-Nets' first block has no attention either."""
    from diffusers import T2IAdapter

    torch.manual_seed(seed)
    channels = json.loads((base / "unet/config.json").read_text())["block_out_channels"]
    adapter = T2IAdapter(1 if grey else 3, channels, 1, 8, "full_adapter_xl")
    adapter.save_pretrained(path)
    return path
