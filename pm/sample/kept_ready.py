"""What a pipeline keeps ready for the steps of its sampler."""

import functools
from collections.abc import Callable

from pm.model.base import BaseModel
from pm.model.deep_features import DeepFeatures, can_keep
from pm.model.fused import LoraSwitch
from pm.sample.adapters import Adapter


class KeptReady:
    """Matrices of adapters, and a view of the U-Net's first level."""

    base: BaseModel
    adapter: Callable[[str | None], Adapter | None]
    _switch: LoraSwitch | None  # None: a model in training
    _deep: DeepFeatures | None = None

    def prepare_adapter(self, name: str | None = None) -> None:
        """Make the matrices that the U-Net needs for an adapter now, and not in the first step that samples with it.

        Another thread may sample meanwhile. Nothing to do where they are made.

        Raises:
            RequestError: no adapter of that name.
        """
        adapter = self.adapter(name)
        if self._switch is not None and adapter is not None:
            self._switch.prepare(adapter.lora)

    def keep_adapters(self, budget: int) -> None:
        """How many bytes of such matrices stay while no row uses them; those of a usual adapter of SDXL take 1.8 GiB
        in half precision."""
        if self._switch is not None:
            self._switch.budget = budget

    @property
    def adapter_memory(self) -> tuple[int, int]:
        """Bytes of such matrices that there are, and how often some were dropped to stay within the budget."""
        return (0, 0) if self._switch is None else (self._switch.nbytes, self._switch.dropped)

    @property
    def deep_features(self) -> DeepFeatures | None:
        """For rows that keep deep features; None for a model in training, or one that cannot."""
        if self._deep is None and self._switch is not None and can_keep(self.base.unet):
            call = functools.partial(self.base.family.predict, max_tokens=self.base.max_tokens)
            self._deep = DeepFeatures(self.base.unet, call)
        return self._deep
