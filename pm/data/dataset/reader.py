"""The Parquet dataset, read at random: sample k of epoch e is a pure function of (seed, e, k)."""

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from pm.data.config import SamplesConfig
from pm.data.dataset.features import from_bytes
from pm.data.loading.batches import Sample
from pm.data.loading.cache import ByteCache
from pm.data.records import INDEX_FILE, read_meta
from pm.errors import DataError, reason
from pm.model.config import FaceEmbedding
from pm.model.images import noise_fill
from pm.photo.pixels import decode_png, resize_mask

_OPEN_FILES = 128
_TARGET = ("mask", "vae_mean", "vae_logvar", "text_embeds", "pooled") + (
    "time_ids",
    "class_index",
    "caption",
    "class_word",
)


@dataclass(frozen=True)
class Stored:
    """Which optional features training reads, if the dataset has them, instead of computing them again and again."""

    repeat: tuple[int, ...] | None = None  # merge=repeat: identity tokens of a sample with 1, 2, ... references
    tower: tuple[str, int] | None = None  # fingerprint of the vision tower and how many of its layers stay frozen
    faces: bool = False  # embeddings of the references' faces


class IdentityDataset:
    """Photos of people with everything precomputed; nothing but the index is held in memory as a whole.

    Args:
        path: the folder that preprocess wrote.
        samples: how targets and references are drawn.
        base_fingerprint: of the base that will be trained on; None skips the check (looking at a dataset).
        cache_mb: half of it for row groups as they are, half for decoded reference photos.
        stored: optional features to use where the dataset has them.

    Raises:
        DataError: missing, unfinished, damaged, empty, or made for another base.
    """

    def __init__(
        self,
        path: str | Path,
        samples: SamplesConfig,
        *,
        base_fingerprint: str | None = None,
        cache_mb: int = 512,
        stored: Stored = Stored(),  # noqa: B008 - frozen
    ):
        self.path, self.samples = Path(path), samples
        self._cache_mb, self.stored = cache_mb, stored
        self.meta = read_meta(path)
        has = self.meta.get("features", {})
        self.storage: str = has.get("storage", "float16")
        self.repeat = stored.repeat if stored.repeat and has.get("repeat", 0) >= max(stored.repeat) else None
        self.tower_shape: Sequence[int] = ()  # K, T, H of what stands for the references' pixels
        if stored.tower is not None and tuple(has.get("tower", ())) == stored.tower:
            self.tower_shape = has["tower_shape"]
        made_for = self.meta["base"]["fingerprint"]
        if base_fingerprint is not None and made_for != base_fingerprint:
            raise DataError(
                f"dataset {Path(path).absolute()} was made for base {self.meta['base']['path']} ({made_for}), not for "
                f"the one to be trained ({base_fingerprint}); use that base or preprocess again with this one"
            )
        index = self._read_index()
        self.identities: list[str] = index["identity"]
        self.photos: list[str] = index["photo"]
        self._places = list(zip(index["file"], index["row_group"], index["row"], strict=True))
        if not self._places:
            raise DataError(
                f"dataset {Path(path).absolute()} holds no photo; see rejects.parquet in it for the reasons"
            )
        self._rows_of: dict[str, range] = _ranges(self.identities)
        self._tables = ByteCache(cache_mb * 2**20 // 2)
        self._references = ByteCache(cache_mb * 2**20 // 2)
        self._file = functools.lru_cache(maxsize=_OPEN_FILES)(self._open)

    def __len__(self) -> int:
        return len(self._places)

    def opener(self, processes: int) -> Callable[[], "IdentityDataset"]:
        """What opens this dataset in one of several processes, which share its cache's size; it can be pickled."""
        size = max(1, self._cache_mb // processes)
        return functools.partial(IdentityDataset, self.path.absolute(), self.samples, cache_mb=size, stored=self.stored)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """C, h, w."""
        return tuple(self.meta["latent_shape"])

    def fingerprint(self) -> str:
        """Of what decides the samples: the settings it was made with and the photos in their order, 16 hex digits."""
        digest = hashlib.sha256(json.dumps(self.meta.get("settings", {}), sort_keys=True).encode())
        for identity, photo in zip(self.identities, self.photos, strict=True):
            digest.update(f"\0{identity}\0{photo}".encode())
        return digest.hexdigest()[:16]

    @functools.cached_property
    def face_embedding(self) -> FaceEmbedding | None:
        """Which face embeddings the photos have; None: they have none."""
        if not self.meta.get("features", {}).get("face_embeddings"):
            return None
        made = self.meta["settings"]["embedder"]
        width = len(self.row(0, ("face_embedding",))["face_embedding"])
        return FaceEmbedding(made["name"], made.get("weights", ""), width)

    def face_embeds(self, rows: Sequence[int]) -> Tensor:
        """Embeddings of the faces on photos, float32 [N, E]."""
        return torch.tensor([self.row(row, ("face_embedding",))["face_embedding"] for row in rows])

    def rows_of(self, identity: str) -> range:
        """Row numbers of a person's photos."""
        return self._rows_of[identity]

    def row(self, number: int, columns: Sequence[str] | None = None) -> dict[str, Any]:
        """One row as stored (`DATASET_SCHEMA`), or some of its columns."""
        file, group, row = self._places[number]
        table = self._tables.get((file, group), lambda: self._read_group(file, group))
        return {name: table.column(name)[row].as_py() for name in columns or table.column_names}

    def reference(self, number: int) -> tuple[Tensor, Tensor]:
        """The photo as the vision tower may see it: uint8 [3, S, S], and the person's mask, bool [1, S, S]."""
        return self._references.get(number, lambda: self._decode_reference(number))

    def sample(self, seed: int, epoch: int, k: int) -> Sample:
        """Sample `k` of epoch `epoch`, 0 <= k < len(self).

        Every photo is the target once in an epoch. References are other photos of the same person; the target itself
        only where there is no other. Fewer than drawn where the person has fewer (paper section 4.1: 1 to 4).
        """
        target = int(self._permutation(seed, epoch)[k])
        random = np.random.default_rng([seed, epoch, k])
        count = int(random.integers(self.samples.min_references, self.samples.max_references, endpoint=True))
        drop_text = bool(random.random() < self.samples.null_text)
        use_mask = bool(random.random() < self.samples.masked_loss)
        sample_seed, fill_seed = (int(s) for s in random.integers(0, 2**63, size=2, dtype=np.int64))
        others = [row for row in self._rows_of[self.identities[target]] if row != target] or [target]
        chosen = random.choice(others, size=min(count, len(others)), replace=False)
        rows = [int(row) for row in chosen]
        id_pixels = (self._lower if self.tower_shape else self._filled)(rows, fill_seed)
        sample = self._sample(target, id_pixels, drop_text, use_mask, sample_seed)
        return replace(sample, face_embeds=self.face_embeds(rows)) if self.stored.faces else sample

    def _filled(self, rows: Sequence[int], seed: int) -> Tensor:
        """Reference photos with noise around the person, uint8 [N, 3, S, S]."""
        pixels, masks = zip(*(self.reference(row) for row in rows), strict=True)
        return noise_fill(torch.stack(pixels), torch.stack(masks), torch.Generator().manual_seed(seed))

    def _lower(self, rows: Sequence[int], seed: int) -> Tensor:
        """One of the stored noise fills of each reference photo, after the frozen layers: float32 [N, T, H]."""
        fills = np.random.default_rng(seed).integers(self.tower_shape[0], size=len(rows))
        size = 2 * self.tower_shape[1] * self.tower_shape[2]
        data = [
            self.row(row, ("tower",))["tower"][f * size : (f + 1) * size] for row, f in zip(rows, fills, strict=True)
        ]
        return torch.stack([self._numbers(each, self.tower_shape[1:]) for each in data])

    def _sample(self, target: int, id_pixels: Tensor, drop_text: bool, use_mask: bool, seed: int) -> Sample:
        repeats = ("repeat_embeds", "repeat_pooled") if self.repeat is not None else ()
        row, (_, height, width) = self.row(target, (*_TARGET, *repeats)), self.latent_shape
        mask = resize_mask(decode_png(row["mask"], "L"), height)
        embeds = self._numbers(row["text_embeds"], self.meta["text_shape"])
        pooled = self._numbers(row["pooled"], (-1,))
        if self.repeat is not None:
            number = self.repeat[len(id_pixels) - 1] - 1
            embeds = self._numbers(row["repeat_embeds"], (-1, *self.meta["text_shape"]))[number]
            pooled = self._numbers(row["repeat_pooled"], (-1,))[number * len(pooled) :][: len(pooled)]
        return Sample(
            mean=self._numbers(row["vae_mean"], self.latent_shape),
            logvar=self._numbers(row["vae_logvar"], self.latent_shape),
            mask=torch.from_numpy(np.asarray(mask, dtype=np.float32) / 255).view(1, height, width),
            embeds=embeds,
            pooled=pooled,
            time_ids=torch.tensor(row["time_ids"]),
            class_index=row["class_index"],
            caption=row["caption"],
            class_word=row["class_word"],
            id_pixels=id_pixels,
            drop_text=drop_text,
            use_mask=use_mask,
            seed=seed,
            repeated=self.repeat is not None,
        )

    def _numbers(self, data: bytes, shape: Sequence[int]) -> Tensor:
        return from_bytes(data, self.storage, shape)

    def _decode_reference(self, number: int) -> tuple[tuple[Tensor, Tensor], int]:
        row = self.row(number, ("id_crop", "mask"))
        image = decode_png(row["id_crop"], "RGB")
        mask = resize_mask(decode_png(row["mask"], "L"), image.width)
        pixels = torch.from_numpy(np.array(image).transpose(2, 0, 1).copy())
        person = torch.from_numpy(np.array(mask)[None] >= 128)
        return (pixels, person), pixels.nbytes + person.nbytes

    @functools.lru_cache(maxsize=2)  # noqa: B019 - two epochs of this dataset; it lives as long as the training
    def _permutation(self, seed: int, epoch: int) -> np.ndarray:
        return np.random.default_rng([seed, epoch]).permutation(len(self))

    def _read_index(self) -> dict[str, list]:
        try:
            return pq.read_table(self.path / INDEX_FILE).to_pydict()
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"{self.path / INDEX_FILE} cannot be read ({error}); preprocess again with overwrite=true"
            ) from error

    def _open(self, file: str) -> pq.ParquetFile:
        return pq.ParquetFile(self.path / file, memory_map=True, page_checksum_verification=True)

    def _read_group(self, file: str, group: int) -> tuple[pa.Table, int]:
        try:
            table = self._file(file).read_row_group(group, use_threads=False)
        except (OSError, pa.ArrowException, IndexError) as error:
            raise DataError(
                f"{self.path / file} is damaged ({reason(error)}); preprocess again with overwrite=true"
            ) from error
        return table, table.nbytes


def _ranges(identities: list[str]) -> dict[str, range]:
    """Where each person's rows are.

    Raises:
        DataError: the rows of a person are not contiguous.
    """
    found: dict[str, range] = {}
    for number, identity in enumerate(identities):
        start = found[identity].start if identity in found else number
        if identity in found and found[identity].stop != number:
            raise DataError(f"rows of {identity!r} are not contiguous in the index; preprocess with overwrite=true")
        found[identity] = range(start, number + 1)
    return found
