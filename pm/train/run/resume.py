"""Whether a run may resume with the settings that it is given now: each setting is applied and said, or refused."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pm.errors import ConfigError
from pm.files import write_text
from pm.model.kinds.base import PHOTOMAKER
from pm.train.run.config import RunConfig

CONFIG = "config.yaml"
# How it learns from now on.
_LEARNING = {"lr_lora", "lr_id_encoder", "weight_decay", "warmup_steps", "grad_clip", "precision"}
# What may change: how long, how often, how it learns and on what it computes. All else defines the run: which samples
# it sees, what is minimised, which weights there are. None: a whole section.
_MAY_CHANGE: dict[str, set[str] | None] = {
    "name": None,  # the folder is what counts
    "profile": None,
    "workers": None,
    "tracker": None,
    "validation": None,
    "engine": None,
    "train": {"steps", "micro_batch_size", "log_every", "validate_every", "checkpoint_every", "num_to_keep"}
    | {"best_metric", "best_mode", "compile"}
    | _LEARNING,
    "base": {"family"},  # the base itself is compared by its fingerprint
    "adapter": {"gradient_checkpointing", "lora_impl"},
}


@dataclass(frozen=True)
class Change:
    """A setting that a run was started with, and its value now."""

    key: str  # dotted
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key}={_shown(self.new)} (was {_shown(self.old)})"

    @property
    def counts(self) -> bool:
        """Whether it changes what is learnt from now on."""
        section, _, name = self.key.partition(".")
        return section == "train" and name in _LEARNING


def check_config(run_dir: Path, config: RunConfig) -> list[Change]:
    """The settings that differ from those the run in this folder had last; none for a new run.

    Settings that the run's version did not know yet are taken as they are now.

    Raises:
        ConfigError: something that defines the run has changed.
    """
    import yaml

    path = run_dir / CONFIG
    if not path.exists():
        return []
    changes = list(_differences(_todays_names(yaml.safe_load(path.read_text())), _plain(config)))
    refused = [change for change in changes if not _may_change(change.key)]
    if refused:
        told = ", ".join(f"{c.key}={_shown(c.old)} (now {_shown(c.new)})" for c in refused)
        raise ConfigError(
            f"run {run_dir} was started with {told}; choose another name= for a new run, or give the same settings to "
            "resume"
        )
    return [change for change in changes if change.key != "name"]


def write_config(run_dir: Path, config: RunConfig) -> None:
    """Write `config.yaml`, the resolved config."""
    import yaml

    write_text(run_dir / CONFIG, yaml.safe_dump(_plain(config), sort_keys=False))


def _plain(config: RunConfig) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(config)))  # tuples become lists, as they are in the file


def _todays_names(config: dict[str, Any]) -> dict[str, Any]:
    """A run's config as version 0.1 wrote it, in today's names."""
    train, engine, adapter = (dict(config.get(section) or {}) for section in ("train", "engine", "adapter"))
    gamma = train.pop("min_snr_gamma", None)
    if isinstance(train.get("loss_weights"), str):
        train["loss_weights"] = {"name": train["loss_weights"]}
        if train["loss_weights"]["name"] == "min_snr":
            train["loss_weights"]["gamma"] = float(gamma)
    name = engine.get("name", "")
    if name.startswith("zero") and name != "zero":
        engine |= {"name": "zero", "stage": int(name[4])}
    if name == "ddp":
        engine.pop("deepspeed", None)
    if isinstance(adapter.get("compose"), str):
        adapter["compose"] = {"name": adapter["compose"]}
    adapter.setdefault("name", PHOTOMAKER)
    return config | {"train": train, "engine": engine, "adapter": adapter}


def _may_change(key: str) -> bool:
    section, _, name = key.partition(".")
    names = _MAY_CHANGE.get(section, set())
    return names is None or name.partition(".")[0] in names


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> Iterator[Change]:
    for key, new in now.items():
        if key not in before:  # a setting that the run's version did not have
            continue
        old, path = before[key], f"{where}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping) and old.get("name") == new.get("name"):
            yield from _differences(old, new, f"{path}.")
        elif old != new:
            yield Change(path, old, new)


def _shown(value: Any) -> str:
    """As it is written on the command line."""
    if isinstance(value, Mapping) and "name" in value:
        rest = {k: v for k, v in value.items() if k != "name" and v not in (None, {}, [])}
        return f"{value['name']}{f' {json.dumps(rest)}' if rest else ''}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
