"""A picture made again from what its file says of itself."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pm.config import from_mapping
from pm.errors import CheckpointError, PmError, RequestError
from pm.model.base import load_base
from pm.photo.pixels import PHOTO_SUFFIXES
from pm.sample.config import GenerateConfig
from pm.sample.output_file import read_about
from pm.sample.record import BASE, BATCH, FILES, SETTINGS, file_of, sha256
from pm.sample.settings import changed, put

# What changes neither a picture's pixels nor who is sampled beside it.
_OUTSIDE = ("output", "format", "quality", "png_level")
_SIZES = ({"width", "height"}, {"aspect"})
_WHO: tuple[dict[str, Any], ...] = ({"id_images": [], "weights": None}, {"people": []})


@dataclass(frozen=True)
class Repeat:
    """What makes a picture again: its settings, and those of all that were sampled together, of which it is one."""

    config: GenerateConfig
    batch: tuple[GenerateConfig, ...] = ()  # empty: by itself, or a whole run that `config` asks for
    index: int = 0


def repeat_of(picture: str | Path, settings: Mapping[str, Any], given: Collection[str] = ()) -> Repeat:
    """The settings that made a picture, grid or sheet of `generate`.

    Args:
        picture: its file.
        settings: all of `generate`, as plain values, for what the picture does not say.
        given: dotted names of those that count whatever the picture says: the only things that change.

    Raises:
        RequestError: it is no picture of `generate`, or photos or other files are not there any more: names all.
        CheckpointError: the base or the adapter is another one now.
    """
    about = read_about(Path(picture).expanduser())
    if SETTINGS not in about:
        raise RequestError(f"{picture} does not say how it was made; like= takes pictures of generate, since 0.2")
    try:
        own, files = json.loads(about[SETTINGS]), json.loads(about.get(FILES, "{}"))
        batch = json.loads(about.get(BATCH, "null"))
    except ValueError as error:
        raise RequestError(f"{picture} has damaged entries ({error}); give another picture") from error
    merged = _merged(settings, own)
    _put_given(merged, settings, given)
    changed_parts = {name.partition(".")[0] for name in given}
    folders = [Path(picture).expanduser().parent, Path()]
    merged |= _places({k: v for k, v in files.items() if k not in changed_parts}, merged, folders, str(picture))
    config = from_mapping(GenerateConfig, merged)
    if "base" not in changed_parts:
        _check_base(config, about.get(BASE, ""), str(picture))
    if batch is None or set(given) - set(_OUTSIDE):
        return Repeat(config)
    return Repeat(config, tuple(changed(config, row) for row in batch["rows"]), int(batch["index"]))


def _merged(settings: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`own` over `settings`; a part that is chosen by name is replaced whole."""
    found = dict(settings)
    for name, value in own.items():
        both = isinstance(value, Mapping) and isinstance(found.get(name), Mapping) and "name" not in value
        found[name] = _merged(found[name], value) if both else value
    return found


def _put_given(merged: dict[str, Any], settings: Mapping[str, Any], given: Collection[str]) -> None:
    for name in given:
        value: Any = settings
        for part in name.split("."):
            value = value[part]
        put(merged, name, value)
    for mine, other in (_SIZES, _SIZES[::-1]):  # one way of saying a size replaces the other
        if mine & set(given) and not other & set(given):
            merged.update(dict.fromkeys(other))
    for one, unset in (_WHO, _WHO[::-1]):  # likewise of one person or several
        if one.keys() & set(given) and not unset.keys() & set(given):
            merged.update(unset)


def _places(
    files: Mapping[str, Mapping[str, str]], settings: Mapping[str, Any], folders: list[Path], picture: str
) -> dict[str, Any]:
    """Settings whose files lie elsewhere now, and are the same files.

    Raises:
        RequestError: some are nowhere, or are others now.
    """
    lost, moved = [], {}
    for setting, named in files.items():
        places = {place: _place(setting, place, digest, folders) for place, digest in named.items()}
        for place, found in places.items():
            if found is None:
                lost.append(f"{setting} {place} (sha256 {named[place][:16]})")
        moved[setting] = _replaced(settings.get(setting), {k: v for k, v in places.items() if v is not None})
    if lost:
        others = ", ".join(dict.fromkeys(f"{each.partition(' ')[0]}=..." for each in lost))
        raise RequestError(
            f"{picture} was made with files that are not there or have changed since: {', '.join(lost)}; put them "
            f"beside it, or name others: {others}"
        )
    return moved


def _place(setting: str, place: str, digest: str, folders: list[Path]) -> str | None:
    """Where the file with this digest is: where it was, under its name in one of the folders, or a photo in them."""
    try:
        file = file_of(setting, place)
    except PmError:
        file = None
    if file is not None and sha256(file) == digest:
        return place
    suffix = Path(place).suffix.lower()
    near = [folder / Path(place).name for folder in folders]
    for folder in folders if suffix in PHOTO_SUFFIXES else ():
        near += sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
    return next((str(path) for path in near if path.is_file() and sha256(path) == digest), None)


def _replaced(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return places.get(value, value)
    if isinstance(value, Mapping):
        return {name: _replaced(each, places) for name, each in value.items()}
    return [_replaced(each, places) for each in value] if isinstance(value, list | tuple) else value


def _check_base(config: GenerateConfig, fingerprint: str, picture: str) -> None:
    base = load_base(config.base.path, (), vision_path=config.base.vision_path, family=config.base.family)
    if fingerprint and base.fingerprint != fingerprint:
        raise CheckpointError(
            f"{picture} was made on base {fingerprint}, but {config.base.path} is {base.fingerprint}; give that base "
            "with base.path=..., or say base.path= to take another"
        )
