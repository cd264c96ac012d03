"""Adapters for other people's loaders."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pm.errors import CheckpointError
from pm.files import open_atomic, replace_folder
from pm.model.adapter_file import ID_PREFIX, LORA_PREFIX, AdapterMeta, save_adapter, strip
from pm.model.config import LoraType
from pm.model.lora import adapter_type

ID_ENCODER, LORA = "id_encoder.safetensors", "pytorch_lora_weights.safetensors"
_README = """# A PhotoMaker adapter for diffusers

Its base has the fingerprint {fingerprint}. diffusers has a place for the LoRA alone, which changes the style but knows
nobody:

```python
import torch
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("{base}", torch_dtype=torch.float32)
pipeline.load_lora_weights("{folder}", weight_name="pytorch_lora_weights.safetensors")
pipeline("a man in a red shirt").images[0].save("{folder}/image.png")
```

For the likeness of a person the identity encoder is needed as well, which diffusers cannot use: it lies here as
`id_encoder.safetensors`. `photomaker export format=native` writes both in one file for `photomaker generate`.
"""


def save_published(path: str | Path, state: Mapping[str, Tensor]) -> None:
    """Write the file that published code loads, atomically: a dict for each part of the adapter.

    PhotoMaker: `{"id_encoder", "lora_weights"}`; IP-Adapter: `{"image_proj", "ip_adapter"}`. It holds tensors in plain
    dicts only, so `torch.load(weights_only=True)` reads it.

    Raises:
        CheckpointError: published code would not read the adapter's weights as they are meant.
    """
    check_carried(state, "published", ("lora",))
    content = {part: strip(state, f"{part}.") for part in sorted({key.partition(".")[0] for key in state})}
    with open_atomic(path, "wb") as stream:
        torch.save({part: {k: v.contiguous() for k, v in tensors.items()} for part, tensors in content.items()}, stream)


def save_diffusers(path: str | Path, state: Mapping[str, Tensor], meta: AdapterMeta, base: str = "") -> None:
    """Write a folder that diffusers' `load_lora_weights` takes, atomically, with a README that shows how.

    The id encoder, which diffusers has no place for, lies beside the LoRA as `id_encoder.safetensors`, with the
    adapter's metadata.

    Args:
        path: of the folder.
        state: of the adapter, as `adapter_state` gives it.
        meta: of the adapter.
        base: folder or Hub id of its base, for the README; "": unknown.

    Raises:
        CheckpointError: the folder is there already, or the adapter has no LoRA.
    """
    from safetensors.torch import save_file

    if not strip(state, LORA_PREFIX):
        raise CheckpointError(
            f"an adapter of the kind {meta.kind} has no LoRA for `load_lora_weights`; use format=native"
        )

    check_carried(state, "diffusers", ("lora", "dora"))
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CheckpointError(f"{target} is there already; remove it or give another output=")
    with replace_folder(target) as temporary:
        lora = {key: value.contiguous() for key, value in strip(state, LORA_PREFIX).items()}
        save_file(lora, temporary / LORA, metadata={"format": "pt"})  # the names are diffusers' own
        save_adapter(temporary / ID_ENCODER, {k: v for k, v in state.items() if k.startswith(ID_PREFIX)}, meta)
        shown = str(Path(base).absolute()) if Path(base or "/nowhere").is_dir() else base
        readme = _README.format(
            base=shown or "<folder or Hub id of the base>",
            fingerprint=meta.base_fingerprint or "unknown",
            folder=target.absolute(),
        )
        (temporary / "README.md").write_text(readme, encoding="utf-8")
        for file in temporary.iterdir():
            file.chmod(0o644)


def check_carried(state: Mapping[str, Tensor], name: str, types: tuple[LoraType, ...]) -> None:
    """Refuse to write what other programs would not read as it is meant.

    Args:
        state: of the adapter, as `adapter_state` gives it.
        name: of the format.
        types: of LoRA that it has a place for.

    Raises:
        CheckpointError: the adapter has another one.
    """
    found = adapter_type(strip(state, LORA_PREFIX))
    if found not in types:
        raise CheckpointError(f"format={name} has no place for an adapter with lora_type={found}; use format=native")
