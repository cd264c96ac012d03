"""Every YAML under conf/ composes with an entry point that uses it, and builds its dataclasses."""

import functools
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pipelines.forget import ForgetConfig
from pm.catalog.listing import ListConfig
from pm.choice import Choice, part_names
from pm.config import from_mapping
from pm.data.config import BrowseConfig, PreprocessConfig
from pm.evaluate.config import EvaluateConfig
from pm.evaluate.votes import VotesConfig
from pm.hub.config import PushConfig
from pm.model.families.base import Family
from pm.sample.config import GenerateConfig
from pm.train.config import ExportConfig
from pm.train.run.config import RunConfig
from serving.compose import LISTS as PART_LISTS
from serving.compose import filled
from serving.config import ServeConfig

CONF = Path(__file__).resolve().parents[2] / "conf"
# entry point → its dataclass, what a user has to give, and keys that are only short names of others
ENTRIES = {
    "preprocess": (PreprocessConfig, ["dataset.root=photos"], ("forget",)),
    "check": (PreprocessConfig, ["dataset.root=photos"], ("forget",)),
    "browse": (BrowseConfig, ["data=data/x"], ("data",)),
    "forget": (ForgetConfig, ["data=data/x", "who=anna_woman"], ()),
    "train": (RunConfig, ["data=data/x"], ("merge", "data", "draw", "wild", "storage_path")),
    "generate": (GenerateConfig, ["prompt=a man img", "id_images=[a.png]"], ()),
    "evaluate": (EvaluateConfig, [], ()),
    "votes": (VotesConfig, ["votes=[a.json]", "key=blind.key.json"], ()),
    "export": (ExportConfig, ["checkpoint=runs/x"], ()),
    "serve": (ServeConfig, [], ()),
    "list": (ListConfig, [], ()),
    "push": (PushConfig, ["folder=runs/mine", "repo=me/mine"], ()),
}
# group → the entry points it belongs to, and its place there if not its name
GROUPS = {
    "base": ("preprocess", "train", "generate", "evaluate", "serve"),
    "dataset": ("preprocess",),
    "face": ("preprocess", "generate"),
    "embedder": ("preprocess", "generate", "serve"),
    "crop": ("preprocess",),
    "mask": ("preprocess", "generate"),
    "verify": ("preprocess",),
    "caption": ("preprocess",),
    "marking": ("preprocess",),
    "model": ("train",),
    "compose": ("train",),
    "engine": ("train",),
    "loss_weights": ("train",),
    "objective": ("train",),
    "term": ("train",),
    "experiment": ("train",),
    "condition": ("train",),
    "related": ("train",),
    "hydra/launcher": ("train",),
    "tracker": ("train", "evaluate"),
    "sampler": ("generate", "evaluate", "serve"),
    "service": ("serve",),
    "protect": ("generate", "serve"),
    "studio": ("serve",),
    "protocol": ("evaluate",),
    "suite": ("evaluate",),
    "comparison": ("evaluate",),
    "metric": ("evaluate",),
    "method": ("evaluate",),
}
LISTS = {group: key for lists in PART_LISTS.values() for key, group in lists.items()}  # of which a list is chosen

# (group, choice) → what a user has to give with it to the first entry point of the group
NEEDS = {
    ("suite", "photos"): ["suite.root=people"],
    ("suite", "images"): ["suite.root=pictures"],
    ("dataset", "urls"): ["dataset.manifest=people.csv"],
    ("embedder", "insightface"): ["face=insightface"],
    ("embedder", "none"): ["verify=none"],
    ("objective", "lcm"): ["model=lora"],
}


@pytest.fixture(scope="module", autouse=True)
def resolver():
    OmegaConf.register_new_resolver("root", lambda path: str(CONF.parent / path), replace=True)
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        yield


def build(entry: str, overrides: Sequence[str]):
    return built(entry, tuple(overrides))


@functools.cache
def built(entry: str, overrides: tuple[str, ...]):
    cls, needed, aliases = ENTRIES[entry]
    cfg = filled(entry, OmegaConf.to_container(compose(entry, [*needed, *overrides]), resolve=True))
    fields = {k: v for k, v in cfg.items() if k not in aliases}
    return from_mapping(cls, fields | ({"dataset": cfg["data"]} if "data" in aliases else {}))


def choosing(group: str, choice: str) -> str:
    return f"{LISTS[group]}=[{choice}]" if group in LISTS else f"{group}={choice}"


@pytest.mark.parametrize("entry", ENTRIES)
def test_entry_point_composes_and_builds(entry):
    build(entry, [])


CHOICES = [(e, g, p.stem) for g, entries in GROUPS.items() for e in entries for p in sorted((CONF / g).glob("*.yaml"))]


@pytest.mark.parametrize("entry, group, choice", CHOICES)
def test_choice_composes_and_builds(entry, group, choice):
    needed = NEEDS.get((group, choice), []) if entry == GROUPS[group][0] else []
    build(entry, [choosing(group, choice), *needed])


def test_no_yaml_is_left_out():
    groups = {p.parent.relative_to(CONF).as_posix() for p in CONF.glob("*/**/*.yaml")} - {"prompts"}  # no settings
    assert groups == set(GROUPS)
    assert {p.stem for p in CONF.glob("*.yaml")} == set(ENTRIES)


KINDS = [kind for kind in Choice.__subclasses__() if kind.__module__.startswith("pm.")]
# kind → where its parts are named, if not in files of a group of its own
ELSEWHERE = {"stage": "pm/data/run/steps.py", "family": "conf/base"}
ELSEWHERE |= {"schedule": "conf/sampler", "watermark": "conf/protect", "check": "conf/protect"}


def parts_in(settings) -> list[Choice]:
    """All parts that a configuration chooses, at any depth."""
    below = [getattr(settings, f.name) for f in fields(settings)] if is_dataclass(settings) else []
    below += settings if isinstance(settings, tuple) else []
    own = [settings] if isinstance(settings, Choice) else []
    return own + [part for value in below for part in parts_in(value)]


@pytest.mark.parametrize("kind", [k for k in KINDS if k.group not in ELSEWHERE], ids=lambda kind: kind.group)
def test_every_part_has_a_yaml_and_every_yaml_names_its_part(kind):
    named = set()
    for entry, group, choice in CHOICES:
        if group == kind.group and entry == GROUPS[group][0]:  # others may have two of a kind
            settings = build(entry, [choosing(group, choice), *NEEDS.get((group, choice), [])])
            (part,) = (part for part in parts_in(settings) if isinstance(part, kind))
            assert type(part).__module__ == f"{kind.package}.{part.name}", choice
            named.add(part.name)
    assert named == set(part_names(kind))


def test_the_kinds_of_the_configuration_are_all_known():
    assert {kind.group for kind in KINDS} - ELSEWHERE.keys() <= GROUPS.keys()
    families = {build("train", [f"base={path.stem}"]).base.family for path in (CONF / "base").glob("*.yaml")}
    assert families <= {"auto", *part_names(Family)}


def test_compose_and_merge_reach_the_adapter():
    config = build("train", ["compose=average", "merge=repeat", "engine=zero3"])
    assert (config.adapter.compose.name, config.adapter.merge) == ("average", "repeat")


def test_a_rule_for_loss_weights_is_chosen_by_its_yaml_or_where_it_has_no_settings_by_its_name():
    assert build("train", ["loss_weights=min_snr", "train.loss_weights.gamma=3"]).train.loss_weights.gamma == 3
    assert build("train", ["train.loss_weights=debiased"]).train.loss_weights.name == "debiased"
    assert build("train", ["experiment=toon"]).train.loss_weights.name == "debiased"
    assert build("train", ["experiment=toon", "loss_weights=uniform"]).train.loss_weights.name == "uniform"


def test_sdxl_experiment_has_the_papers_settings():
    config = build("train", ["experiment=sdxl"])
    assert (config.train.lr_lora, config.train.lr_id_encoder, config.train.batch_size) == (1e-4, 1e-5, 48)
    assert (config.train.null_text, config.train.masked_loss) == (0.1, 0.5)
    assert (config.train.min_references, config.train.max_references) == (1, 4)


def test_settings_of_a_part_in_a_list_are_changed_section_by_section():
    captioner = {"name": "template", "templates": ["a {word}"]}
    parts = [
        "dreambooth",
        {"name": "dreambooth", "train": {"steps": 7}},
        {"name": "captioned", "caption": captioner},
    ]
    plain, changed, captioned = filled("evaluate", {"methods": parts, "metrics": []})["methods"]
    assert changed["train"] == plain["train"] | {"steps": 7}
    assert captioned["caption"] == captioner


def test_smoke_draws_the_dataset_that_it_trains_on(monkeypatch, tmp_path):
    from pipelines import train

    built = []
    monkeypatch.setattr("pm.data.run.build.build", lambda config: built.append(config) or SimpleNamespace(text=str))
    cfg = OmegaConf.to_container(compose("train", ["experiment=smoke", f"data={tmp_path}/drawn"]), resolve=True)
    train.draw(cfg)
    (config,) = built
    assert (config.output, config.dataset.identities, config.base.path) == (cfg["data"], 12, cfg["base"]["path"])
