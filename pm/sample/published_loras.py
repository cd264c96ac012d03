"""The published interface's LoRAs: diffusers' names for loading, mixing and fusing them, on ours beside the weights.

Nothing is ever fused into the base here, so `fuse_lora` only says how strong all of them are, and undoing it is exact.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from pm.errors import RequestError
from pm.model.fused import FusedLora
from pm.model.fused_types import FusedFactors
from pm.sample.adapters import Adapter
from pm.sample.loras import encoding_with, find_lora
from pm.strengths import check_strength


class PublishedLoras:
    """LoRAs of the calls. Strengths are those of `set_adapters`, times `fuse_lora`'s scale, times the call's own."""

    _strengths: Mapping[str, float] = {}  # of LoRAs and of adapters, by name; 1 for those that are not in it
    _lora_scale = 1.0
    _loras_on = True

    def load_lora_weights(
        self: Any,
        pretrained_model_name_or_path_or_dict: str | Path | Mapping[str, Tensor],
        adapter_name: str | None = None,
        *,
        weight_name: str | None = None,
        subfolder: str = "",
        **hub: Any,
    ) -> None:
        """Load a LoRA; the calls have it from now on, at strength 1, beside the adapter and other LoRAs.

        Args:
            pretrained_model_name_or_path_or_dict: a file, a folder or Hub id, or a state dict; of diffusers, PEFT or
                kohya.
            adapter_name: for `set_adapters`; None: the file's name.
            weight_name: file in the folder or repository.
            subfolder: of the folder.
            hub: for `hf_hub_download`.

        Raises:
            CheckpointError: it cannot be used with this base.
        """
        source = pretrained_model_name_or_path_or_dict
        if not isinstance(source, Mapping):
            place = Path(source) / subfolder if subfolder and Path(source).is_dir() else source
            if subfolder and place is source:
                weight_name = f"{subfolder}/{weight_name}" if weight_name else None
            source = find_lora(place, weight_name, **{k: v for k, v in hub.items() if k in _HUB})
        name = self.load_lora(source, adapter_name)
        self._strengths = {**self._strengths, name: 1.0}

    def set_adapters(self: Any, adapter_names: str | Sequence[str], adapter_weights: Any = None) -> None:
        """Which LoRAs the calls have, and how strong; those that are not named have none.

        Args:
            adapter_names: of LoRAs, and of the PhotoMaker adapter ("photomaker"), whose own LoRA stays at 1 unless
                named.
            adapter_weights: one for all, or one for each; None: 1.

        Raises:
            RequestError: a name that is not loaded, or a weight that is none.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        given = adapter_weights if isinstance(adapter_weights, list | tuple) else [adapter_weights] * len(names)
        if len(given) != len(names):
            raise RequestError(f"{len(given)} adapter_weights given for {len(names)} names; give one for each")
        weights = [1.0 if weight is None else weight for weight in given]
        known = [*self.adapters, *self.loras]
        for name, weight in zip(names, weights, strict=True):
            if name not in known:
                raise RequestError(f"adapter_names: {name!r} is not loaded; loaded are {', '.join(known) or 'none'}")
            if isinstance(weight, Mapping):
                raise RequestError(f"adapter_weights: {name!r} takes one number for all blocks here, such as 0.8")
            check_strength(name, weight)
        self._strengths = {name: 0.0 for name in self.loras} | dict(zip(names, map(float, weights), strict=True))
        self._scale_adapters()

    def fuse_lora(self: Any, components: Any = None, lora_scale: float = 1.0, **_: Any) -> None:
        """Say how strong all LoRAs are, the adapter's own too, on top of their weights. Nothing else is needed here.

        Args:
            components: is not used: a LoRA acts on all parts that it has weights for.
            lora_scale: 1: as they are.

        Raises:
            RequestError: no number.
        """
        if isinstance(components, int | float) and not isinstance(components, bool):
            lora_scale = components  # older versions of diffusers had the scale elsewhere
        check_strength("lora_scale", lora_scale)
        self._lora_scale = float(lora_scale)
        self._scale_adapters()

    def unfuse_lora(self: Any, *_: Any, **__: Any) -> None:
        """Undo `fuse_lora`'s scale."""
        self.fuse_lora()

    def unload_lora_weights(self: Any) -> None:
        """Forget all LoRAs; adapters stay (`unload_photomaker_adapter` forgets those)."""
        for name in self.loras:
            self.unload_lora(name)
        self._strengths = {k: v for k, v in self._strengths.items() if k in self.adapters}

    def delete_adapters(self: Any, adapter_names: str | Sequence[str]) -> None:
        """Forget LoRAs or adapters by name."""
        for name in [adapter_names] if isinstance(adapter_names, str) else adapter_names:
            self.unload_lora(name) if name in self.loras else self.unload_photomaker_adapter(name)
            self._strengths = {k: v for k, v in self._strengths.items() if k != name}

    def disable_lora(self: Any) -> None:
        """Calls have no LoRAs until `enable_lora`; the adapter's own stays."""
        self._loras_on = False

    def enable_lora(self: Any) -> None:
        """Undo `disable_lora`."""
        self._loras_on = True

    def get_active_adapters(self: Any) -> list[str]:
        """Names of the LoRAs and adapters that the calls have."""
        active = [name for name in self.loras if self._strengths.get(name, 0.0) != 0 and self._loras_on]
        return [*self.adapters, *active]

    def get_list_adapters(self: Any) -> dict[str, list[str]]:
        """Names of all that is loaded."""
        return {"unet": [*self.adapters, *self.loras]}

    def call_loras(self: Any, scale: float = 1.0) -> dict[str, float]:
        """`Request.loras` of a call; `scale` is the call's own."""
        if not self._loras_on:
            return {}
        every = self._lora_scale * scale
        strengths = {name: self._strengths.get(name, 0.0) * every for name in self.loras}
        return {name: strength for name, strength in strengths.items() if strength != 0}

    @contextmanager
    def _adapters_at(self: Any, scale: float) -> Iterator[None]:
        """Adapters inside have a call's own scale on top."""
        if scale == 1:
            yield
            return
        self._scale_adapters(scale)
        try:
            yield
        finally:
            self._scale_adapters()

    @contextmanager
    def _encoding(self: Any) -> Iterator[None]:
        """Text that is encoded inside has the LoRAs of the calls."""
        with encoding_with(self.base, self._loras.take(self.call_loras()).text):
            yield

    def _scale_adapters(self: Any, scale: float = 1.0) -> None:
        """Give the adapters' own LoRAs their strengths; those of other kinds have none to scale."""
        for name, adapter in list(self._adapters.items()):
            strength = self._strengths.get(name, 1.0) * self._lora_scale * scale
            self._adapters = self._adapters | {name: _scaled(adapter, strength)}


def _scaled(adapter: Adapter, strength: float) -> Adapter:
    own = adapter.lora
    if not isinstance(own, FusedLora | FusedFactors):
        return adapter
    lora = own.scaled(strength)
    return adapter if lora is own else replace(adapter, lora=lora)


_HUB = ("token", "revision", "cache_dir", "local_files_only", "force_download")
