"""What a dataset was made with, beside what is asked for now; settings of earlier versions are understood."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pm.photo.stored import upgraded as upgraded_photo

# Names on the command line of what has another name here.
_TYPED = {"verify.min_spread": "embedder.min_spread", "verify.max_distance": "embedder.max_distance"}
_TYPED["embedder.name"] = "embedder"
_OF_THE_SOURCE = ("min_side", "max_pixels", "max_bytes", "near_duplicate")  # kept without their group


@dataclass(frozen=True)
class Change:
    """A setting that differs; None: it is not there."""

    name: str  # dotted
    before: Any
    after: Any

    @property
    def group(self) -> str:
        """The first part of the name: `face` of `face.min_size`."""
        return self.name.partition(".")[0]

    @property
    def setting(self) -> str:
        """The name on the command line."""
        return f"dataset.{self.name}" if self.name in _OF_THE_SOURCE else _TYPED.get(self.name, self.name)

    def __str__(self) -> str:
        return f"{self.setting}: {self.before!r} there, {self.after!r} now"


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """In which settings two datasets differ, sorted; what is null is as if it were not there."""
    before, after = _flat(upgraded(old)), _flat(upgraded(new))
    names = sorted(name for name in {**before, **after} if before.get(name) != after.get(name))
    found = [Change(name, before.get(name), after.get(name)) for name in names]
    # Before 0.2 nobody noted what was in a model's file.
    return [change for change in found if change.before is not None or not change.name.endswith(".weights")]


def upgraded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a `dataset.json` of any version, as this version writes them.

    Before 0.2 every choice had the fields of all others, which were null, and two choices were named by `rule`; the
    distances that `verify` asks the embedder for were its own, by the embedder's name.
    """
    found = {name: _group(name, value) for name, value in settings.items()}
    if isinstance(found.get("embedder"), str):
        found["embedder"] = {"name": found["embedder"]}
    if "verify" in found:
        found["verify"] = _verify(found["verify"], found.get("embedder", {}).get("name", ""))
    return found


def _verify(rule: Mapping[str, Any], embedder: str) -> dict[str, Any]:
    """A rule with the distances of the one embedder that it was used with; those that it did not ask for are null."""
    if rule.get("name") == "none":
        return {"name": "none"}
    found = dict(rule)
    for name in ("min_spread", "max_distance"):
        if isinstance(found.get(name), Mapping):
            found[name] = found[name].get(embedder)
    if "common_person" not in found and "spread" in found:
        found["common_person"] = found.get("max_distance") is not None
        if found["spread"] == "group":
            found["min_spread"] = None
    return found


def _group(name: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    found = dict(value)
    if "rule" in found:
        found = {"name": found.pop("rule"), **found}
    if name in ("face", "mask"):
        found = dict(upgraded_photo(name, found))
    if name == "marking" and found.get("name") == "simple":  # its models' names said nothing
        found = {"name": "simple"}
    if name == "caption" and not found.get("templates"):
        found.pop("templates", None)
    return found


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{name}.")
        elif value is not None:
            flat[name] = list(value) if isinstance(value, tuple) else value
    return flat
