"""What is loaded: a base, and adapters on it by name."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from pm.errors import CheckpointError, RequestError
from pm.model.adapter import check_adapter
from pm.model.adapter_file import AdapterMeta
from pm.model.base import BaseModel, check_trainable, load_base
from pm.model.class_words import CLASS_WORDS
from pm.model.compiled import Compile, compile_unet
from pm.model.families.base import AUTO
from pm.model.offload import Offload
from pm.model.quantized import Quantize, load_for_sampling, switch_for
from pm.model.trained import TrainedAdapter
from pm.photo.embedders.embed import EmbedderChoice
from pm.sample.adapters import Adapter, find_adapter, read_adapter
from pm.sample.config import usual_merge_fraction
from pm.sample.devices import Placed
from pm.sample.kept_ready import KeptReady
from pm.sample.loaded_controls import LoadedControls
from pm.sample.loras import LoadedLoras, LoraStore
from pm.sample.request import BASE
from pm.sample.schedule import Schedule
from pm.sample.schedules.base import ScheduleChoice
from pm.sample.single_file import SingleFile


class LoadedModels(LoadedLoras, LoadedControls, KeptReady, Placed, SingleFile):
    """A base with its schedule, and any number of adapters; the one loaded last is the default."""

    def __init__(
        self,
        base: BaseModel,
        photomaker: TrainedAdapter | None = None,
        *,
        schedule: ScheduleChoice | str | None = None,
        merge_fraction: float | None = None,
        class_words: Collection[str] | None = CLASS_WORDS,
        embedder: EmbedderChoice | None = None,
    ) -> None:
        """Wrap loaded models.

        Args:
            base: loaded with text encoders, VAE and U-Net.
            photomaker: a model in training around `base.unet`; to load an adapter, `load_photomaker_adapter`.
            schedule: one of `pm.sample.schedules`, by name or with settings; None: the base's own.
            merge_fraction: share of the steps that see the text only, for requests that do not say; None: what is usual
                for this base.
            class_words: words allowed before the trigger; None allows every word.
            embedder: of faces, for adapters that take face embeddings; None: that of their training.
        """
        if base.text_encoders is None or base.vae is None or base.unet is None:
            raise CheckpointError(f"base {base.path} was not loaded whole; load it with parts text, vae and unet")
        self.base, self.class_words, self.embedder = base, class_words, embedder
        self.schedule = Schedule(schedule, base.scheduler_config)
        self.merge_fraction = usual_merge_fraction(base.drawn) if merge_fraction is None else merge_fraction
        self._switch = None if photomaker is not None else switch_for(base.unet)
        self._adapters: dict[str, Adapter] = {}
        self._loras = LoraStore(base)
        self._preview: Tensor | None = None
        if photomaker is not None:
            self._adapters["training"] = Adapter("training", photomaker, None, None, "", photomaker.trigger_word)

    @classmethod
    def from_pretrained(
        cls,
        base: str | Path,
        adapter: str | Path | None = None,
        vision_path: str | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        schedule: ScheduleChoice | str | None = None,
        merge_fraction: float | None = None,
        class_words: Collection[str] | None = CLASS_WORDS,
        embedder: EmbedderChoice | None = None,
        family: str = AUTO,
        check_base: bool = True,
        compile: Compile | bool = "off",
        offload: Offload = "none",
        vae_tiling: bool = False,
        quantize: Quantize | None = None,
        torch_dtype: torch.dtype | None = None,
        use_safetensors: bool = True,
        variant: str | None = None,
    ) -> Self:
        """Load a base and, if given, an adapter, which holds the whole id encoder: the vision tower is not needed.

        Args:
            base: folder in the diffusers layout, or Hub id.
            adapter: what `find_adapter` finds; None: the base alone.
            vision_path: as in `load_base`.
            device: as in `load_base`.
            dtype: as in `load_base`.
            schedule: as in the constructor.
            merge_fraction: as in the constructor.
            class_words: as in the constructor.
            embedder: as in the constructor.
            family: as in `load_base`.
            check_base: False puts the adapter on another base of the same shape, such as a fine-tuned one.
            compile: "regional" compiles the blocks that the U-Net repeats, "full" all of it; with its first calls, or
                by `warm_up`. True: "full".
            offload: weights rest on the CPU and visit `device`: "model" or "sequential", see `pm.model.offload`.
            vae_tiling: decode pictures in tiles.
            quantize: "int8" or "fp8": the U-Net's linear weights in 8 bits; with "_dynamic" its products, too.
            torch_dtype: diffusers' name for `dtype`.
            use_safetensors: diffusers' argument, which must be True.
            variant: diffusers' argument, which is not needed.

        Raises:
            CheckpointError: something is missing or damaged, or the adapter was trained on another base.
        """
        _require_safetensors(use_safetensors)
        how: dict[str, Any] = {"vision_path": vision_path, "family": family}
        file = None if adapter is None else _checked_adapter(adapter, base, check_base, **how)
        where = "cpu" if offload != "none" else device
        loaded = load_for_sampling(base, quantize, device=where, dtype=torch_dtype or dtype, **how)
        own: dict[str, Any] = {"merge_fraction": merge_fraction, "class_words": class_words, "embedder": embedder}
        pipeline = cls(loaded, schedule=schedule, **own)
        if file is not None:
            pipeline.load_photomaker_adapter(file, check_base=check_base)
        compile_unet(loaded.unet, compile if isinstance(compile, str) else "full" if compile else "off")
        pipeline.save_memory(offload, vae_tiling, torch.device(device))
        return pipeline

    def load_photomaker_adapter(
        self,
        pretrained_model_name_or_path_or_dict: str | Path | Mapping[str, Any],
        weight_name: str | None = None,
        subfolder: str = "",
        trigger_word: str | None = None,
        *,
        pm_version: str | None = None,
        adapter_name: str = "photomaker",
        check_base: bool = True,
        read_faces: bool = False,
        **hub: Any,
    ) -> None:
        """Load an adapter, or replace the one of that name; it becomes the default.

        Args:
            pretrained_model_name_or_path_or_dict: a file, a folder or Hub id that has `weight_name`, or a state dict
                with `id_encoder` and `lora_weights`. Ours, or the published `.bin` or safetensors.
            weight_name: file in the folder or repository; default: the usual names.
            subfolder: of the folder or repository.
            trigger_word: word after the class word in prompts; default: the adapter's own ("img").
            pm_version: "v1" or "v2", if only that one will do; None: what the file is.
            adapter_name: any number of adapters can be loaded, by name; "base" is the base alone.
            check_base: refuse an adapter that was trained on another base.
            read_faces: load what reads faces for it now, where it takes face embeddings; not with the first photo.
            hub: for `hf_hub_download`: `token`, `revision`, `cache_dir`, `local_files_only`, ...

        Raises:
            CheckpointError: missing, damaged, of another version than asked for, or it does not fit the base.
        """
        if pm_version not in (None, "v1", "v2"):
            raise CheckpointError(
                f"pm_version={pm_version!r} is not one of v1, v2; leave it out to take what the file is"
            )
        if self._switch is None or adapter_name == BASE:
            raise CheckpointError(
                f"adapter_name={adapter_name!r} cannot be loaded here; choose another name or pipeline"
            )
        source = pretrained_model_name_or_path_or_dict
        if not isinstance(source, Mapping):
            source = find_adapter(source, weight_name, subfolder, **hub)
        self._switch.use(None)  # the new one is checked against, and fused with, the base's own matrices
        adapter = read_adapter(
            self.base,
            source,
            adapter_name,
            trigger_word=trigger_word,
            check_base=check_base,
            embedder=self.embedder,
        )
        version = "v2" if adapter.terms.kind.sees_faces else "v1"
        if pm_version is not None and pm_version != version:
            raise CheckpointError(f"pm_version={pm_version} is asked for, this adapter is {version}; leave it out")
        if read_faces and adapter.faces is not None:
            adapter.faces.prepare()
        self._offload_adapter(adapter)
        # The last loaded is the default. Replaced at once: other threads may be looking names up.
        self._adapters = {k: v for k, v in self._adapters.items() if k != adapter_name} | {adapter_name: adapter}

    def plain_unet(self) -> Any:
        """The U-Net with the base's own matrices, whatever adapter was sampled with last.

        Raises:
            CheckpointError: it is in training, with a LoRA inside.
        """
        if self._switch is None:
            raise CheckpointError("the U-Net of a model in training carries its LoRA; load the base by itself")
        check_trainable(self.base)
        self._switch.use(None)
        return self.base.unet

    def unload_photomaker_adapter(self, adapter_name: str = "photomaker") -> None:
        """Forget an adapter; rows that already sample keep it. Unknown names are ignored."""
        self._adapters = {k: v for k, v in self._adapters.items() if k != adapter_name}

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the adapters that are loaded; requests may also say "base"."""
        return tuple(self._adapters)

    def adapter(self, name: str | None = None) -> Adapter | None:
        """The adapter a request with this name gets; None: the base alone.

        Raises:
            RequestError: no adapter of that name.
        """
        if name is None:
            return next(reversed(self._adapters.values()), None)
        if name == BASE:
            return None
        if name not in self._adapters:
            raise RequestError(f"adapter {name!r} is not loaded; use {', '.join([*self._adapters, BASE])}")
        return self._adapters[name]

    def trigger_word_of(self, name: str | None) -> str | None:
        """An adapter's trigger word, None for the base alone."""
        adapter = self.adapter(name)
        return adapter.trigger_word if adapter else None

    def max_id_images_of(self, name: str | None) -> int | None:
        """Most ID images a request may have, None for the base alone."""
        adapter = self.adapter(name)
        return adapter.max_id_images if adapter else None

    def digest_of(self, name: str | None) -> str:
        """16 hex digits of an adapter's weights; the base's fingerprint for the base alone."""
        adapter = self.adapter(name)
        return adapter.digest if adapter else self.base.fingerprint

    @property
    def photomaker(self) -> Any:
        """The default adapter's model, of its kind; None without one."""
        adapter = self.adapter()
        return adapter.conditioner if adapter else None

    @property
    def meta(self) -> AdapterMeta | None:
        """The default adapter's metadata, None without one."""
        adapter = self.adapter()
        return adapter.meta if adapter else None

    @property
    def trigger_word(self) -> str | None:
        return self.trigger_word_of(None)

    @property
    def max_id_images(self) -> int | None:
        return self.max_id_images_of(None)

    @property
    def pixel_step(self) -> int:
        """Width and height must be multiples of this."""
        return self.base.shapes.side_multiple


def _require_safetensors(use_safetensors: bool) -> None:
    if not use_safetensors:
        raise CheckpointError("use_safetensors=False would read pickled weights, which can run code; convert them")


def _checked_adapter(adapter: str | Path, base: str | Path, check_base: bool, **how: Any) -> Path:
    """An adapter's file, once it is known to fit: a wrong one shall not cost minutes of loading."""
    file = find_adapter(adapter, None, "")
    check_adapter(file, load_base(base, (), **how), check_base=check_base)
    return file
