"""Adapters on one base, by name: found, read, checked, and ready for sampling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pm.errors import CheckpointError, reason
from pm.model.adapter_file import AdapterMeta, digest, load_adapter
from pm.model.base import BaseModel
from pm.model.conditioner import Conditioner
from pm.model.files import folder_unless_hub_id
from pm.model.fused import UnetChange
from pm.model.kinds.base import kind_of
from pm.photo.embedders.embed import EmbedderChoice
from pm.sample.checks import Terms
from pm.sample.faces import FaceReader, reader_for

_USUAL_FILES = ("adapter.safetensors",) + tuple(
    f"photomaker-{version}.{ending}" for version in ("v1", "v2") for ending in ("bin", "safetensors")
)


@dataclass(frozen=True)
class Adapter:
    """One adapter, ready to condition rows."""

    name: str
    conditioner: Conditioner
    lora: UnetChange | None  # None: it changes nothing in the U-Net; or in training, where that sits in it already
    meta: AdapterMeta | None
    digest: str  # of the weights
    trigger_word: str
    faces: FaceReader | None = None  # reads the faces that it wants to know; None: it wants none, or in training

    @property
    def terms(self) -> Terms:
        """What it asks of a request."""
        if self.meta is not None:
            return Terms.of(self.meta, self.trigger_word)
        training: Any = self.conditioner
        return Terms.described(self.trigger_word, self.max_id_images, training.about(), training.kind)

    @property
    def max_id_images(self) -> int:
        return self.conditioner.max_id_images


def read_adapter(
    base: BaseModel,
    source: str | Path | Mapping[str, Any],
    name: str,
    *,
    trigger_word: str | None = None,
    check_base: bool = True,
    embedder: EmbedderChoice | None = None,
) -> Adapter:
    """Read an adapter for a base that is loaded with its U-Net; the base itself is not touched.

    `embedder`: as in `pm.sample.faces.reader_for`.

    Raises:
        CheckpointError: missing, damaged, or it does not fit the base or the embedder.
    """
    state, meta = load_adapter(source)
    faces = reader_for(meta, embedder)
    conditioner, change = kind_of(meta.kind).read(base, state, meta, check_base=check_base)
    return Adapter(name, conditioner, change, meta, digest(state), trigger_word or meta.trigger_word, faces)


def find_adapter(place: str | Path, weight_name: str | None, subfolder: str, **hub: Any) -> Path:
    """The file that `place` means: a file, a folder and a name in it, or a Hub id and a name in it.

    Raises:
        CheckpointError: nothing there.
    """
    path = Path(place).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        folder = path / subfolder
        names = [weight_name] if weight_name else _USUAL_FILES
        found = next((folder / name for name in names if (folder / name).is_file()), None)
        if found is None:
            raise CheckpointError(f"{folder} holds no {' or '.join(names)}; give weight_name=<file in that folder>")
        return found
    missing = f"adapter {place} does not exist; give a file, a folder, or a Hub id like owner/name"
    if path.suffix in (".safetensors", ".bin", ".pt", ".pth"):
        raise CheckpointError(missing)
    folder_unless_hub_id(str(place), missing)
    names = [weight_name] if weight_name else list(_USUAL_FILES)
    return _fetched(str(place), names, subfolder=subfolder or None, **hub)


def _fetched(repo: str, names: Sequence[str], **hub: Any) -> Path:
    """The first of the files that a repository of the Hub has.

    Raises:
        CheckpointError: it has none, or cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for name in names:
        try:
            return Path(hf_hub_download(repo, name, **hub))
        except LocalEntryNotFoundError as error:  # offline: another file may be in the cache, and is not waited for
            failed: Exception = error
            hub["local_files_only"] = True
        except EntryNotFoundError as error:
            failed = error
        except Exception as error:  # the client raises a dozen types for "not found", "offline" and "not allowed"
            failed = error
            break
    raise CheckpointError(
        f"{repo} is neither a file nor can {' or '.join(names)} be fetched from there ({reason(failed)})"
    ) from failed
