"""An adapter from a checkpoint, after the fact and without a cluster; and adapters in the formats of others."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pm.choice import import_modules
from pm.config import from_mapping
from pm.errors import CheckpointError
from pm.model.adapter import adapter_state, meta_of
from pm.model.adapter_file import AdapterMeta, load_adapter, save_adapter
from pm.model.base import load_base
from pm.model.comfyui import save_comfyui
from pm.model.config import BaseConfig
from pm.model.formats import save_diffusers, save_published
from pm.model.kinds.base import PHOTOMAKER, AdapterChoice
from pm.train.checkpoint import best_complete, is_checkpoint, newest_complete, read_checkpoint, read_meta
from pm.train.config import ExportConfig
from pm.train.engine.base import load_weights
from pm.train.run.card import card_of, save_for_hub
from pm.train.run.summary import CHECKPOINTS
from pm.train.run.workers import CROP_MODE, project_version
from pm.train.step import train_in_float32

_ENDINGS = {
    "native": ".safetensors",
    "published": ".bin",
    "diffusers": "-lora",
    "comfyui": "-comfyui",
    "hub": "-hub",
}


def export(config: ExportConfig) -> Path:
    """Write the adapter in the format that is asked for; returns its path.

    native: `adapter.safetensors` as training writes it. published: the `{"id_encoder", "lora_weights"}` file of the
    authors. diffusers: a folder for `load_lora_weights`, with the id encoder beside the LoRA. comfyui: a folder like
    its `models`. hub: a folder with the native file and a card.

    Raises:
        CheckpointError: nothing to export there, damaged, or the base it was trained on is gone or changed.
    """
    import_modules(config.modules)
    source = Path(config.checkpoint).expanduser()
    run: dict[str, Any] | None = None
    if source.is_file():
        state, meta = load_adapter(source)
        home, name = source.parent, source.stem
    else:
        folder = find_checkpoint(source, config.pick)
        state, meta = adapter_of(folder)
        run = read_meta(folder)["provenance"]["config"]
        home = folder.parent.parent if folder.parent.name == CHECKPOINTS else folder.parent
        name = f"adapter-{folder.name}"
    base = "" if run is None else str(run["base"]["path"])
    target = Path(config.output or home / f"{name}{_ENDINGS[config.format]}")
    if config.format == "native":
        save_adapter(target, state, meta)
    elif config.format == "published":
        save_published(target, state)
    elif config.format == "comfyui":
        save_comfyui(target, state, meta, name)
    elif config.format == "hub":
        save_for_hub(target, state, meta, card_of(meta, run, target.name, config.report, config.license))
    else:
        save_diffusers(target, state, meta, base)
    return target


def find_checkpoint(path: Path, pick: Literal["newest", "best"]) -> Path:
    """The checkpoint at `path`, or one of the run's there.

    Raises:
        CheckpointError: there is none that is whole.
    """
    if is_checkpoint(path):
        return path
    root = path / CHECKPOINTS if (path / CHECKPOINTS).is_dir() else path
    found = newest_complete(root) if pick == "newest" else best_complete(root)
    if found is None:
        raise CheckpointError(
            f"no complete checkpoint at {Path(path).absolute()}; give a run's folder, a folder step-... in its "
            f"{CHECKPOINTS}/, or an adapter.safetensors"
        )
    return found


def adapter_of(folder: Path) -> tuple[dict[str, Tensor], AdapterMeta]:
    """The adapter of a checkpoint that any engine on any number of workers wrote, as the run's end would export it.

    The moving average of the weights if there is one. The id encoder's frozen layers, which no checkpoint holds, come
    from the base, or from the adapter that the run started from.
    """
    saved = read_checkpoint(folder)
    provenance = saved.position.provenance
    config = provenance["config"]  # another version's may have other settings beside these
    wanted = from_mapping(BaseConfig, config["base"])
    adapter = from_mapping(AdapterChoice, {"name": PHOTOMAKER} | config["adapter"])
    base = load_base(
        wanted.path, adapter.parts(), vision_path=wanted.vision_path, family=wanted.family, dtype=torch.float32
    )
    if base.fingerprint != provenance["base"]:
        raise CheckpointError(
            f"checkpoint {folder} was made with base model {provenance['base']}, but {wanted.path} is now "
            f"{base.fingerprint}; restore that base to export"
        )
    photomaker = adapter.build(base)
    if config["init"] is not None:
        adapter.start_from(photomaker, config["init"])
    train_in_float32(photomaker)
    load_weights(nn.ModuleDict({"photomaker": photomaker}), saved.ema or saved.engine.weights)
    meta = meta_of(
        photomaker,
        crop_mode=CROP_MODE,
        project_version=project_version(),
        step=saved.position.step,
        run=config["name"],
        preprocess=provenance["photos"],
        people=provenance.get("people"),  # checkpoints before 0.2 do not say
    )
    return adapter_state(photomaker), meta
