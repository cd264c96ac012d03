"""ControlNets and T2I-Adapters that are loaded beside a base, by name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from pm.errors import RequestError
from pm.model.base import BaseModel
from pm.sample.controls import RowControl, row_control
from pm.sample.pictures import first_step, size_of, strength_of

if TYPE_CHECKING:
    from pm.model.control import Control
    from pm.model.offload import Offloader
    from pm.sample.adapters import Adapter
    from pm.sample.request import Request


class LoadedControls:
    """A part of `pm.sample.models.LoadedModels`."""

    base: BaseModel
    load_photomaker_adapter: Callable[..., None]
    _adapters: "dict[str, Adapter]"
    _offloader: "Offloader | None"
    _controls: "Mapping[str, Control]" = MappingProxyType({})

    def load_control(self, place: str | Path, name: str | None = None) -> None:
        """Load a ControlNet or a T2I-Adapter, or replace the one of that name.

        Args:
            place: a folder in diffusers' layout, or a Hub id.
            name: that requests mean it by; None: `place`.

        Raises:
            CheckpointError: missing, damaged, or for another base.
        """
        from pm.model.control import load_control

        control = load_control(place, self.base)
        if self._offloader is not None:
            self._offloader.add(control.module)
        # Replaced at once: other threads may be looking names up.
        self._controls = {**self._controls, name or str(place): control}

    def load_image_prompt(self, place: str | Path, name: str | None = None, *, check_base: bool = True) -> None:
        """Load an IP-Adapter for image prompts beside the identity; it is no request's default adapter.

        Args:
            place: what `find_adapter` finds.
            name: that requests mean it by; None: `place`.
            check_base: refuse one that was trained on another base.

        Raises:
            CheckpointError: missing, damaged, or for another base.
        """
        name = name or str(place)
        self.load_photomaker_adapter(place, adapter_name=name, check_base=check_base)
        self._adapters = {name: self._adapters[name], **{k: v for k, v in self._adapters.items() if k != name}}

    def unload_control(self, name: str) -> None:
        """Forget a control; rows that already sample keep it. Unknown names are ignored."""
        self._controls = {key: value for key, value in self._controls.items() if key != name}

    @property
    def controls(self) -> tuple[str, ...]:
        """Names of the controls that are loaded."""
        return tuple(self._controls)

    def control(self, name: str | None) -> "Control":
        """The control of that name; None: the only one.

        Raises:
            RequestError: there is none, or several and none is named.
        """
        known = ", ".join(self._controls) or "none"
        if name is None and len(self._controls) != 1:
            raise RequestError(f"a control image has no name; controls that are loaded: {known}")
        if name is not None and name not in self._controls:
            raise RequestError(f"control {name!r} is not loaded; controls that are loaded: {known}")
        return next(iter(self._controls.values())) if name is None else self._controls[name]

    def row_controls(self, request: "Request", steps: int) -> tuple[RowControl, ...]:
        """A request's controls, ready for its row; `steps`: of its plan.

        Raises:
            RequestError: the plan ends before the step that the row would begin with.
        """
        size, first = size_of(request, self.base.shapes), first_step(request)
        if first >= steps:
            raise RequestError(
                f"strength={strength_of(request):g} begins at step {first}, and the plan ends at step {steps}; "
                "use more strength, or let it end later"
            )
        acting = [control for control in request.controls if control.scale > 0]
        return tuple(row_control(self.control(control.name), control, size, first, steps) for control in acting)

    def _move_controls(self, device: object, dtype: object) -> None:
        for control in self._controls.values():
            control.to(device, dtype)  # type: ignore[arg-type]
