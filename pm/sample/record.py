"""What a picture's file says beside the words for people: everything that is needed to make it again."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pm.sample.adapters import find_adapter
from pm.sample.config import GenerateConfig, first_merged
from pm.sample.lora_files import loras_said
from pm.sample.loras import find_lora
from pm.sample.people_files import about_people
from pm.sample.picture_files import about_files
from pm.sample.said import interval_said, schedule_said
from pm.strengths import strengths

SETTINGS, FILES, BASE, BATCH = "settings", "files", "base_fingerprint", "batch"
# Where it goes and who makes it, not what it is.
NOT_RECORDED = ("output", "like", "manifest", "skip_bad_rows", "workers", "protect")


def settings_of(config: GenerateConfig) -> dict[str, Any]:
    """Every setting that the picture depends on, as plain values."""
    found = dataclasses.asdict(config)
    return {name: value for name, value in found.items() if name not in NOT_RECORDED}


def recorded(config: GenerateConfig, photos: Sequence[Sequence[Path]], base_fingerprint: str) -> dict[str, str]:
    """Text entries: the settings as JSON, the files that they name with their SHA-256, the base's fingerprint.

    Args:
        config: of this picture.
        photos: what `id_images` means, or the photos of each of its people.
        base_fingerprint: 16 hex digits.

    Paths are written as they were given.
    """
    settings, places = settings_of(config), [[str(photo) for photo in some] for some in photos]
    if config.people:
        pairs = zip(settings["people"], places, strict=True)
        settings["people"] = [person | {"photos": mine} for person, mine in pairs]
    else:
        settings["id_images"] = places[0]
    files = {name: found for name in settings if (found := _files(name, settings[name]))}
    return {SETTINGS: json.dumps(settings), FILES: json.dumps(files), BASE: base_fingerprint}


def of_all(said: Mapping[str, object], config: GenerateConfig) -> dict[str, object]:
    """The entries of a file that shows all pictures of `config`, from those of one of them."""
    own = json.loads(str(said[SETTINGS]))
    settings = settings_of(config) | {name: own[name] for name in ("id_images", "people")}
    return {k: v for k, v in said.items() if k != BATCH} | {"seed": config.seed, SETTINGS: json.dumps(settings)}


def lockstep(cells: Sequence[GenerateConfig]) -> list[range]:
    """Which pictures are sampled by one call: neighbours that end together, so that its batches are always full."""
    runs: list[range] = []
    for i, cell in enumerate(cells):
        before = cells[i - 1].sampler
        if i and (before.steps, before.schedule) == (cell.sampler.steps, cell.sampler.schedule):
            runs[-1] = range(runs[-1].start, i + 1)
        else:
            runs.append(range(i, i + 1))
    return runs


def batch_of(cells: Sequence[GenerateConfig], index: int) -> dict[str, str]:
    """A text entry: which pictures were sampled together with one, by what each differs from it, in their order.

    A picture does not depend on its neighbours but for the rounding of sums, which depends on the size of a batch. For
    the same bits the same batch is sampled again.
    """
    run = next(run for run in lockstep(cells) if index in run)
    size = cells[index].sampler.batch_size
    start = run.start + (index - run.start) // size * size
    own, rows = _flat(settings_of(cells[index])), []
    for cell in cells[start : min(start + size, run.stop)]:
        other = _flat(settings_of(cell))
        rows.append({name: value for name, value in other.items() if name not in own or own[name] != value})
    return {BATCH: json.dumps({"index": index - start, "rows": rows})}


def file_of(name: str, place: str) -> Path | None:
    """The file that a setting's value names; None: it names none."""
    if name == "adapter":
        return find_adapter(place, None, "")
    if name == "loras":
        return find_lora(next(iter(strengths((place,)))))
    path = Path(place).expanduser()
    try:
        return path if path.is_file() else None
    except (OSError, ValueError):  # a prompt that is too long for a name, or holds a zero
        return None


def sha256(file: Path) -> str:
    """64 hex digits of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _files(name: str, value: Any) -> dict[str, str]:
    """The files that a setting names, with their hashes."""
    places = [] if name == "prompt" else list(dict.fromkeys(_texts(value)))
    return {place: sha256(file) for place in places if (file := file_of(name, place)) is not None}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names; parts that are chosen by name stay whole."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and "name" not in value:
            found |= _flat(value, f"{before}{name}.")
        else:
            found[before + name] = value
    return found


def about(
    config: GenerateConfig, prompt: str | None, photos: Sequence[str], weights: list[float] | None
) -> dict[str, object]:
    """What a picture's file says of how it was made."""
    sampler = config.sampler
    return {
        "prompt": prompt,
        "negative_prompt": sampler.negative_prompt,
        "adapter": config.adapter or "none",
        "base": config.base.path,
        "id_images": ", ".join(photos),
        "weights": ", ".join(map(str, weights)) if weights else "1",
        **({} if config.scale is None else {"scale": config.scale}),
        **about_people(config.people),
        **about_files(config),
        **loras_said(config.strengths),
        **{name: value for name in ("guidance_rescale", "clip_skip") if (value := getattr(config, name))},
        **schedule_said(sampler.schedule),
        "steps": sampler.steps,
        "guidance": sampler.guidance,
        **interval_said(sampler.guidance_start, sampler.guidance_end),
        **({"cache_interval": sampler.cache_interval} if sampler.cache_interval > 1 else {}),
        **({"eta": sampler.eta} if sampler.eta else {}),
        "merge_step": sampler.merge_step if config.id_start is None else first_merged(config.id_start, sampler.steps),
        "id_strength": config.id_strength,
        "id_end": config.id_end,
        "prompt_weighting": config.prompt_weighting,
        "trigger": config.trigger,
    }
