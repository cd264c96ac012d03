"""LoRAs that a pipeline knows by name; the weights of those in use are kept, within a budget."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from pm.errors import CheckpointError, RequestError, did_you_mean, reason
from pm.model.base import BaseModel
from pm.model.fused import LoraSwitch
from pm.model.loras.beside import LoraSet, RowLoras, added_to_all
from pm.model.loras.file import Lora, PartChange, read_lora
from pm.model.loras.layers import BaseLayers
from pm.strengths import check_strength

USUAL_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
_FILES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
BUDGET = 2 << 30  # bytes: ten usual ones of SDXL in half precision
Source = str | Path | Mapping[str, Tensor]


@dataclass(frozen=True)
class TakenLoras:
    """What a request's LoRAs change: in the denoiser, and in each text encoder."""

    unet: RowLoras | None = None
    text: tuple[RowLoras | None, ...] = ()


class LoraStore:
    """LoRAs of one base by name. A file is read again when its weights were dropped to stay within the budget; rows
    that are on their way keep theirs."""

    def __init__(self, base: BaseModel, budget: int = BUDGET) -> None:
        """`budget`: bytes of weights that are kept, the ones used last; one is kept in any case."""
        self.base, self.budget = base, budget
        self._layers: BaseLayers | None = None
        self._sources: dict[str, Source] = {}
        self._kept: OrderedDict[str, Lora] = OrderedDict()
        self._sets: WeakValueDictionary[tuple[PartChange, ...], LoraSet] = WeakValueDictionary()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._sources)

    @property
    def nbytes(self) -> int:
        """Of the weights that are kept."""
        return sum(lora.nbytes for lora in self._kept.values())

    def add(self, name: str, source: Source) -> None:
        """Know a LoRA by a name, instead of another one of that name. Its weights are read when it is used.

        Raises:
            CheckpointError: it cannot be used with this base.
        """
        self._read(source)
        self._kept.pop(name, None)
        self._sources = self._sources | {name: source}  # at once: other threads may be looking names up

    def remove(self, name: str) -> None:
        """Forget one; unknown names are ignored."""
        self._sources = {k: v for k, v in self._sources.items() if k != name}
        self._kept.pop(name, None)

    def drop_weights(self) -> None:
        """Read everything again when it is used next: the base has moved."""
        self._kept.clear()

    def check(self, loras: Mapping[str, float]) -> None:
        """Refuse names that are not known, and strengths that are none.

        Raises:
            RequestError: names the first.
        """
        for name, strength in loras.items():
            check_strength(name, strength)
            if name not in self._sources:
                known = ", ".join(self._sources) or "none is loaded"
                near = did_you_mean(name, self._sources) or ";"
                raise RequestError(f"LoRA {name!r} is not loaded{near} known: {known}")

    def take(self, loras: Mapping[str, float]) -> TakenLoras:
        """The weights for a request.

        Raises:
            CheckpointError: a file has changed and cannot be used any more, or holds NaN.
        """
        used = {name: strength for name, strength in sorted(loras.items()) if strength != 0}
        if not used:
            return TakenLoras()
        parts = [(lora.unet, *lora.text) for lora in map(self.weights, used)]
        each = [self._row(of_part, tuple(used.values())) for of_part in zip(*parts, strict=True)]
        return TakenLoras(each[0], tuple(each[1:]))

    def weights(self, name: str) -> Lora:
        """A LoRA's weights where the base is, in its dtype, read now unless they are kept.

        Raises:
            CheckpointError: as `take`.
        """
        if name not in self._kept:
            lora = self._read(self._sources[name])
            lora.check_finite(name)
            # A copy: files are mapped, and may be replaced.
            device, dtype = self.base.unet.device, self.base.unet.dtype
            if device.type == "meta":  # its weights are elsewhere between calls
                device = torch.device("cpu")
            unet, *text = (part.to(device, dtype, copy=True) for part in (lora.unet, *lora.text))
            self._kept[name] = Lora(unet, tuple(text))
            while len(self._kept) > 1 and self.nbytes > self.budget:
                self._kept.popitem(last=False)
        self._kept.move_to_end(name)
        return self._kept[name]

    def _read(self, source: Source) -> Lora:
        if self._layers is None:
            self._layers = BaseLayers(self.base)
        return read_lora(source, self._layers)

    def _row(self, parts: tuple[PartChange, ...], strengths: tuple[float, ...]) -> RowLoras | None:
        """For one part of the base; None: none of them changes it."""
        own = [(part, strength) for part, strength in zip(parts, strengths, strict=True) if part.layers]
        if not own:
            return None
        key = tuple(part for part, _ in own)
        together = self._sets.get(key)
        if together is None:  # rows with the same LoRAs are computed together: they must share it
            together = self._sets[key] = LoraSet(key)
        return RowLoras(together, tuple(strength for _, strength in own))


class LoadedLoras:
    """What a pipeline does with LoRAs."""

    base: BaseModel
    _switch: LoraSwitch | None  # None: a model in training
    _loras: LoraStore

    @property
    def loras(self) -> tuple[str, ...]:
        """Names for `Request.loras`."""
        return self._loras.names

    def load_lora(self, source: Source, name: str | None = None, weight_name: str | None = None) -> str:
        """Load a LoRA for the U-Net and, where it has weights for them, the text encoders. Requests name it.

        Args:
            source: what `find_lora` finds, or a state dict.
            name: for requests; None: the file's, without suffix. Another LoRA of that name is replaced.
            weight_name: file in a folder or repository.

        Returns:
            its name.

        Raises:
            CheckpointError: it cannot be used: missing, damaged, no LoRA, or for another base.
        """
        if self._switch is None:
            raise CheckpointError("a model in training takes no LoRA beside its own; load the base by itself")
        found = source if isinstance(source, Mapping) else find_lora(source, weight_name)
        if name is None:
            name = f"lora{len(self.loras) + 1}" if isinstance(found, Mapping) else found.stem
        self._loras.add(name, found)
        self._loras.weights(name)
        return name

    def load_loras(self, loras: Mapping[str, float]) -> None:
        """Load those that are not loaded yet from the places that are their names, as in configurations.

        Raises:
            CheckpointError: one cannot be used.
        """
        for place in loras:
            if place not in self.loras:
                self.load_lora(place, place)

    def offer_lora(self, source: Source, name: str) -> None:
        """Know a LoRA whose weights are read when a request names it.

        Raises:
            CheckpointError: it cannot be used.
        """
        self._loras.add(name, source)

    def keep_loras(self, budget: int) -> None:
        """How many bytes of weights stay ready for the next requests."""
        self._loras.budget = budget

    def unload_lora(self, name: str) -> None:
        """Forget a LoRA; rows that already sample keep it. Unknown names are ignored."""
        self._loras.remove(name)


def find_lora(place: str | Path, weight_name: str | None = None, **hub: Any) -> Path:
    """The file that `place` means: a file, a folder, or a Hub id, `owner/name` or `owner/name/file.safetensors`.

    Args:
        place: a folder with several files needs `weight_name`, unless one has a usual name.
        weight_name: file in the folder or repository.
        hub: for `hf_hub_download`.

    Raises:
        CheckpointError: nothing there.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        return _in_folder(path, weight_name)
    if path.exists():
        return path
    owner, _, rest = str(place).partition("/")
    repository, _, file = rest.partition("/")
    if str(place).startswith((".", "/", "~")) or not (owner and repository) or (path.suffix in _FILES and not file):
        raise CheckpointError(f"LoRA {place} does not exist; give a .safetensors file, a folder or a Hub id")
    from huggingface_hub import hf_hub_download

    wanted = weight_name or file or USUAL_FILES[0]
    try:
        return Path(hf_hub_download(f"{owner}/{repository}", wanted, **hub))
    except Exception as error:  # the client raises a dozen types for "not found", "offline" and "not allowed"
        raise CheckpointError(
            f"LoRA {place} is neither a file nor can {wanted} be fetched from there ({reason(error)}); give "
            "owner/name/file.safetensors"
        ) from error


def _in_folder(folder: Path, weight_name: str | None) -> Path:
    there = sorted(file.name for file in folder.glob("*.safetensors"))
    names = [weight_name] if weight_name else [name for name in USUAL_FILES if name in there] or there
    if len(names) != 1 or not (folder / names[0]).is_file():
        found = f"it has {', '.join(there[:5])}" if there else "it has no .safetensors file"
        raise CheckpointError(f"LoRA {folder} is a folder, and which file of it is not clear ({found}); name the file")
    return folder / names[0]


@contextmanager
def encoding_with(base: BaseModel, text: tuple[RowLoras | None, ...]) -> Iterator[None]:
    """Text that is encoded inside has these LoRAs in the text encoders."""
    with ExitStack() as stack:
        for encoder, loras in zip(base.text_encoders or (), text, strict=False):
            stack.enter_context(added_to_all(encoder, loras))
        yield
