"""Before and after the graph: the shards, the settings that define a dataset, and the report of a run."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pm.data.config import FeaturesConfig, PreprocessConfig
from pm.data.dataset.writer import PREVIEW_FILE, settings_hash
from pm.data.records import SCHEMA_VERSION, Photo
from pm.data.run.steps import stages_of
from pm.errors import counted
from pm.model.base_sizes import BaseSizes

_LEAST_SHARDS = 32  # more would not fill the workers better, fewer would make the progress bar jump


@dataclass(frozen=True)
class Report:
    """What a run did."""

    meta: dict[str, Any]  # dataset.json
    photos: int  # that this run looked at
    seconds: float
    advice: Sequence[str] = ()  # what to do about photos that were left out; a line each

    @property
    def complete_before(self) -> bool:
        return self.photos == 0

    def text(self, output: str) -> str:
        """The summary for the terminal."""
        counts, rate = self.meta["counts"], self.photos / self.seconds
        lines = [f"{'stage':<12}{'in':>8}{'kept':>8}{'/s, worker':>12}  rejected"]
        for stage, count in counts["stages"].items():
            reasons = ", ".join(f"{reason} {n}" for reason, n in count["rejected"].items())
            speed = count.get("photos_per_worker_second", "-")
            lines.append(f"{stage:<12}{count['in']:>8}{count['kept']:>8}{speed:>12}  {reasons or '-'}")
        digits = 1 if rate >= 1 else 2
        found, people = counted(counts["found"], "photo"), counted(counts["identities"], "person", "people")
        lines.append(
            f"{counts['kept']} of {found} kept, {people}; "
            f"this run: {counted(self.photos, 'photo')} in {self.seconds:.1f} s ({rate:.{digits}f} photos/s)"
            if self.photos
            else f"dataset is complete: {counts['kept']} of {found}, {people}"
        )
        if ignored := self.meta.get("ignored_files"):
            lines.append(f"not photos by their names, left out: {', '.join(f'{k} {n}' for k, n in ignored.items())}")
        return "\n".join([*lines, *self.advice, _where(output)])

    def nothing_kept(self, root: str, output: str) -> str:
        """The message when there is no dataset to train on."""
        counts = self.meta["counts"]
        reasons = ", ".join(f"{r} {n}" for stage in counts["stages"].values() for r, n in stage["rejected"].items())
        advice = (
            "; ".join(self.advice) or "loosen that stage's setting, and the same command continues in the same folder"
        )
        return f"all {counts['found']} photos of {root} were rejected ({reasons}); {advice}; {_where(output)}"


def _where(output: str) -> str:
    folder = Path(output).absolute()
    return f"dataset: {folder}  (look at {folder / PREVIEW_FILE})"


def shard_limit(found: int, shard_photos: int) -> int:
    """Photos in a shard, at most, unless one identity has more."""
    return max(1, min(shard_photos, found // _LEAST_SHARDS))


def plan_shards(photos: Iterable[Photo], limit: int) -> Iterator[list[Photo]]:
    """Split sorted photos into numbered shards of whole identities; looks at no more than one shard at a time."""
    number = 0
    shard: list[Photo] = []
    for _, group in itertools.groupby(photos, key=lambda photo: photo.identity):
        members = list(group)
        if shard and len(shard) + len(members) > limit:
            yield [replace(p, shard=number) for p in shard]
            number, shard = number + 1, []
        shard += members
    if shard:
        yield [replace(p, shard=number) for p in shard]


def settings_of(config: PreprocessConfig, sizes: BaseSizes, listing: str) -> dict[str, Any]:
    """Everything the dataset's content depends on; not where it lies or how many workers make it."""
    depends = {name: value for stage in stages_of(config) for name, value in stage.depends().items()}
    return {
        "base": sizes.fingerprint,
        "vision_size": sizes.vision_size,
        "photos": listing,
        "shard_photos": config.workers.shard_photos,
        **{name: _plain(value) for name, value in depends.items()},
    }


def _plain(value: Any) -> Any:
    group = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return _jsonable(dataclasses.asdict(value) if group else value)


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _jsonable(v) for key, v in value.items()}
    return [_jsonable(v) for v in value] if isinstance(value, (list, tuple)) else value


def describe(config: PreprocessConfig, sizes: BaseSizes, settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "base": {"path": config.base.path, "fingerprint": sizes.fingerprint},
        "resolution": sizes.resolution,
        "vision_size": sizes.vision_size,
        "latent_shape": list(sizes.latent_shape),
        "text_shape": list(sizes.text_shape),
        "features": _features(config.features, sizes),
        "source": config.dataset.name,
        "licence": config.dataset.licence,
        "provenance": config.dataset.provenance,
        "settings_hash": settings_hash(settings),
        "settings": settings,
        "config": _jsonable(dataclasses.asdict(config)),
    }


def _features(config: FeaturesConfig, sizes: BaseSizes) -> dict[str, Any]:
    """What the loader must know to read the features."""
    found: dict[str, Any] = {"storage": config.storage, "repeat": config.repeat}
    if config.face_embeddings:
        found["face_embeddings"] = True  # whose they are is in the settings
    if config.noise_fills:
        frozen = max(0, sizes.tower_layers - config.train_layers)
        found |= {"tower": [sizes.vision_fingerprint, frozen], "tower_shape": [config.noise_fills, *sizes.tower_shape]}
    return found
