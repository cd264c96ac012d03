"""An adapter for ComfyUI: its identity encoder for the PhotoMaker nodes, its LoRA for the LoRA loader.

ComfyUI's loader takes the encoder's weights under their bare names, strictly; its LoRA loader knows kohya's names, not
those of diffusers and PEFT.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pm.errors import CheckpointError
from pm.files import replace_folder
from pm.model.adapter_file import ID_PREFIX, LORA_PREFIX, AdapterMeta, strip
from pm.model.formats import check_carried
from pm.model.kinds.base import PHOTOMAKER
from pm.model.lora import layers_of

_README = """# A PhotoMaker adapter for ComfyUI

Copy both folders into ComfyUI's `models`:

- `photomaker/{name}.safetensors`: for the node PhotoMakerLoader.
- `loras/{name}.safetensors`: for the node LoraLoaderModelOnly, strength 1, on the base with the fingerprint {base}.

ComfyUI's node PhotoMakerEncode calls the trigger word `photomaker` (`a man photomaker in a red shirt`), takes one
photo, and shows the identity from the first step on. This project's own nodes (`integrations/comfyui`) take several
photos, weigh them, and delay the identity as the paper does.
"""


def save_comfyui(path: str | Path, state: Mapping[str, Tensor], meta: AdapterMeta, name: str = "photomaker") -> None:
    """Write a folder like ComfyUI's `models`, atomically.

    Args:
        path: of the folder.
        state: of the adapter, as `adapter_state` gives it.
        meta: of the adapter.
        name: of the files.

    Raises:
        CheckpointError: the folder is there already, or ComfyUI's nodes cannot use such an adapter.
    """
    from safetensors.torch import save_file

    learned = any(key.startswith(f"{ID_PREFIX}compose.") for key in state)  # weights that ComfyUI has no place for
    if meta.kind != PHOTOMAKER or learned:
        what = f"the kind {meta.kind}" if meta.kind != PHOTOMAKER else f"compose={meta.compose.label}"
        raise CheckpointError(f"ComfyUI's PhotoMaker nodes cannot use an adapter of {what}; use format=native")
    check_carried(state, "comfyui", ("lora",))
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CheckpointError(f"{target} is there already; remove it or give another output=")
    encoder = {key: value.contiguous() for key, value in strip(state, ID_PREFIX).items()}
    with replace_folder(target) as temporary:
        for folder, tensors in (("photomaker", encoder), ("loras", kohya_names(strip(state, LORA_PREFIX)))):
            file = temporary / folder / f"{name}.safetensors"
            file.parent.mkdir()
            save_file(tensors, file, metadata={"format": "pt"})
            file.chmod(0o644)
        readme = _README.format(name=name, base=meta.base_fingerprint or "unknown")
        (temporary / "README.md").write_text(readme, encoding="utf-8")


def kohya_names(lora: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A U-Net's LoRA in the names of kohya's scripts, `lora_unet_<layer>.lora_up.weight`, with alpha = rank.

    Args:
        lora: `unet.<layer>.lora_A.weight` and `.lora_B.weight`, as in the adapter's file.
    """
    found: dict[str, Tensor] = {}
    for layer in sorted(layers_of(lora)):
        down, up = (lora[f"unet.{layer}.lora_{which}.weight"] for which in "AB")
        name = f"lora_unet_{layer.replace('.', '_')}"
        found[f"{name}.lora_down.weight"], found[f"{name}.lora_up.weight"] = down.contiguous(), up.contiguous()
        found[f"{name}.alpha"] = torch.tensor(float(down.shape[0]))
    return found
