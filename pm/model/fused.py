"""LoRA added into the U-Net's matrices for inference, and switched by copying them in: several adapters on one base.

A fused U-Net is as fast as the plain one. Each adapter keeps its own copy of the matrices it changes, and so does the
base: a switch is a copy on the device, adding up rounding errors is impossible, and the base alone stays at hand. The
U-Net's own tensors stay where they are, so that recorded CUDA graphs and compiled code go on reading them.
"""

import copy
from collections.abc import Callable, Collection, Mapping
from threading import RLock
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from pm.errors import CheckpointError
from pm.model.lora import layers_of, lora_shape

BUDGET = 8 << 30  # bytes: four usual adapters of SDXL in half precision
Own = Callable[[str], Tensor]  # a U-Net's weight as it was loaded, by its name


class UnetChange:
    """What one adapter changes in a U-Net; its matrices are made before it is first used, or then."""

    # Instead of the U-Net's own, by parameter name; None: not made, dropped, or in the U-Net and nowhere else.
    fused: dict[str, Tensor] | None = None

    @property
    def names(self) -> Collection[str]:
        """Of the parameters that it changes."""
        raise NotImplementedError

    def weights(self, own: Own) -> dict[str, Tensor]:
        """The matrices, made from those of the U-Net as it was loaded, in their dtype and on their device."""
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        """Of the matrices that are made."""
        return sum(weight.nbytes for weight in (self.fused or {}).values())


class FusedLora(UnetChange):
    """One adapter's LoRA."""

    def __init__(self, unet: nn.Module, prefix: str, state: Mapping[str, Tensor]) -> None:
        """`prefix`, `state`: as in `pm.model.lora.lora_parameters`.

        Raises:
            CheckpointError: a matrix is missing, left over, not linear, or of another shape than the U-Net's.
        """
        self.strength = 1.0
        self.state = {name.removeprefix(prefix): value.float() for name, value in state.items()}
        self.layers = _checked_layers(unet, prefix, state)

    def delta(self, layer: str) -> Tensor:
        """s B A, [out, in] float32 on the CPU (alpha = rank, so that is no further scale)."""
        return self._delta(layer, torch.device("cpu"))

    def _delta(self, layer: str, device: torch.device) -> Tensor:
        a, b = (self.state[f"{layer}.lora_{which}.weight"].to(device) for which in "AB")
        return self.strength * (b @ a)

    def scaled(self, strength: float) -> "FusedLora":
        """The same with another strength, 1 as it was trained; itself where it has that already."""
        if strength == self.strength:
            return self
        other = copy.copy(self)
        other.strength, other.fused = strength, None
        return other

    @property
    def names(self) -> Collection[str]:
        return [f"{layer}.weight" for layer in self.layers]

    def weights(self, own: Own) -> dict[str, Tensor]:
        return {f"{layer}.weight": self._fuse(own(f"{layer}.weight"), layer) for layer in self.layers}

    def _fuse(self, own: Tensor, layer: str) -> Tensor:
        # Added in float32, then rounded once: in bfloat16 that loses less than the arithmetic itself does.
        return (own.float() + self._delta(layer, own.device)).to(own.dtype)


class ReplacedUnet(UnetChange):
    """A U-Net of the adapter's own: every weight of it."""

    def __init__(self, unet: nn.Module, state: Mapping[str, Tensor]) -> None:
        """`state`: by the U-Net's own names.

        Raises:
            CheckpointError: a weight is missing, left over, or of another shape than the U-Net's.
        """
        own = dict(unet.named_parameters())
        missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unexpected:
            raise CheckpointError(
                f"the adapter's U-Net is not that of this base: {len(missing)} weights missing (e.g. {missing[:1]}), "
                f"{len(unexpected)} left over (e.g. {unexpected[:1]}); use the base it was trained with"
            )
        wrong = next((name for name, value in own.items() if value.shape != state[name].shape), None)
        if wrong is not None:
            raise CheckpointError(
                f"the adapter's U-Net has another shape in {wrong} ({tuple(state[wrong].shape)}, here "
                f"{tuple(own[wrong].shape)}); use the base it was trained with"
            )
        self.state = dict(state)

    @property
    def names(self) -> Collection[str]:
        return list(self.state)

    def weights(self, own: Own) -> dict[str, Tensor]:
        # In the memory format of the U-Net's own.
        return {name: torch.empty_like(own(name)).copy_(value) for name, value in self.state.items()}


class LoraSwitch:
    """Puts the matrices of one adapter, or the base's own, into a U-Net. Matrices of adapters that no row uses are
    dropped, the least recently used first, as far as a budget says so; they are made again when they are needed."""

    def __init__(self, unet: nn.Module, budget: int = BUDGET) -> None:
        """`budget`: bytes of matrices that are kept."""
        self.unet, self.budget = unet, budget
        self.active: UnetChange | None = None
        self.before: Callable[[], None] | None = None  # called before matrices are exchanged
        self.dropped = 0  # times that matrices were, since the start
        self._own: dict[str, Tensor] = {}  # the base's matrices that some adapter replaces, as they were loaded
        self._used: WeakKeyDictionary[UnetChange, int] = WeakKeyDictionary()  # when, for those that are made
        self._clock = 0
        self._in_use: frozenset[UnetChange | None] = frozenset()
        self._lock = RLock()

    @property
    def nbytes(self) -> int:
        """Of the adapters' matrices that are made."""
        return sum(change.nbytes for change in list(self._used))

    def prepare(self, change: UnetChange | None) -> None:
        """Make an adapter's matrices where they are not yet, also beside the steps of another thread."""
        travels = self.before is not None  # offloaded weights are left alone
        if change is None or change is self.active or change.fused is not None or travels:
            return
        with self._lock:  # not while it computes: a switch would wait
            own = self._own_weights(change)
        fused = change.weights(own.__getitem__)
        with self._lock:
            if change.fused is None:
                change.fused = fused
            self._note(change)

    def use(self, change: UnetChange | None) -> None:
        """Let the U-Net compute with this adapter; None: the base alone."""
        if change is self.active:
            return
        with self._lock:
            if self.before is not None:
                self.before()
            own = self._own_weights(change)
            fused = {} if change is None else change.fused or change.weights(own.__getitem__)
            before = self._put_away()
            wanted = {name: self._own[name] for name in before if name not in fused} | fused
            with torch.no_grad():
                parameters: list[Tensor] = [self.unet.get_parameter(name) for name in wanted]
                torch._foreach_copy_(parameters, list(wanted.values()))
            self.active = change
            if change is not None:
                # Where nobody else's turn comes the U-Net has them, and a second copy is a waste.
                change.fused = fused if len(self._in_use) > 1 else None
                self._note(change)

    def _put_away(self) -> Collection[str]:
        """Keep what is in place for the next time, if it is wanted; returns the names that it changed."""
        change = self.active
        if change is None:
            return []
        if change.fused is None and (change in self._in_use or self._taken(change) <= self.budget):
            change.fused = {name: self.unet.get_parameter(name).data.clone() for name in change.names}
            self._note(change)
        elif change.fused is None:
            self.dropped += 1
        return change.names

    def _taken(self, change: UnetChange) -> int:
        """Bytes that its matrices would take."""
        return sum(self.unet.get_parameter(name).nbytes for name in change.names)

    def in_use(self, changes: Collection[UnetChange | None]) -> None:
        """Say which adapters rows have that are on their way: their matrices stay, whatever the budget."""
        self._in_use = frozenset(changes)
        self._drop()

    def forget(self) -> None:
        """The base's own weights are in place, and are about to move or change: make everything again."""
        self.use(None)
        with self._lock:
            self._own.clear()
            for change in list(self._used):
                change.fused = None
            self._used.clear()

    def _own_weights(self, change: UnetChange | None) -> dict[str, Tensor]:
        for name in [] if change is None else change.names:
            if name not in self._own:  # then no adapter has replaced it yet
                self._own[name] = self.unet.get_parameter(name).data.clone()
        return self._own

    def _note(self, change: UnetChange) -> None:
        self._clock += 1
        self._used[change] = self._clock
        self._drop(change)

    def _drop(self, kept: UnetChange | None = None) -> None:
        with self._lock:
            for change in sorted(self._used, key=self._used.__getitem__):
                if self.nbytes <= self.budget:
                    return
                if change not in self._in_use and change not in (kept, self.active):
                    change.fused = None
                    del self._used[change]
                    self.dropped += 1


def _checked_layers(unet: nn.Module, prefix: str, state: Mapping[str, Tensor]) -> list[str]:
    """Names of the U-Net's layers that this LoRA changes, all of them and no other."""
    odd = next((name for name in state if not name.startswith(prefix)), None)
    if odd is not None:
        raise CheckpointError(f"{odd} is not a LoRA weight of {prefix}*; use the base the adapter was trained with")
    layers, (rank, targets) = layers_of(state), lora_shape(state)
    own = {name for name, _ in unet.named_modules() if name.endswith(tuple(f".{target}" for target in targets))}
    missing, unexpected = sorted(own - layers), sorted(layers - own)
    if missing or unexpected or len(state) != 2 * len(layers):
        raise CheckpointError(
            f"LoRA does not fit this U-Net: {len(missing)} layers missing (e.g. {missing[:1]}), "
            f"{len(unexpected)} left over (e.g. {unexpected[:1]}); use the base and the targets it was trained with"
        )
    for layer in layers:
        module = unet.get_submodule(layer)
        if not isinstance(module, nn.Linear):
            raise CheckpointError(f"LoRA on {layer} ({type(module).__name__}) is not supported; only linear layers are")
        a, b = (tuple(state[f"{prefix}{layer}.lora_{which}.weight"].shape) for which in "AB")
        if (a, b) != ((rank, module.in_features), (module.out_features, rank)):
            raise CheckpointError(
                f"{layer} has another shape ({b} x {a} in the file, {tuple(module.weight.shape)} here); "
                "use the base it was trained with"
            )
    return sorted(layers)
