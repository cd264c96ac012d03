"""How photographs are prepared unless something says otherwise: what `conf/` says, for those who come without Hydra."""

import functools
import re
from typing import Any, TypeVar

import yaml

from pm.choice import Choice
from pm.config import from_mapping
from pm.photo.stored import Preparation
from pm.resources import resource

T = TypeVar("T", bound=Choice)
_FILES = {"face": "yunet", "mask": "selfie", "crop": "paper"}


@functools.cache
def shipped_preparation() -> Preparation:
    """The settings of conf/face/yunet.yaml, conf/mask/selfie.yaml and conf/crop/paper.yaml."""
    texts = {group: resource(f"conf/{group}/{file}.yaml").read_text() for group, file in _FILES.items()}
    return from_mapping(Preparation, {group: yaml.safe_load(text) for group, text in texts.items()})


def shipped_part(kind: type[T], name: str) -> T | None:
    """A part with the settings of its YAML in `conf/`; None: it has none there."""
    file = resource(f"conf/{kind.group}/{name}.yaml")
    return from_mapping(kind, _plain(file.read_text()), kind.group) if name.isidentifier() and file.is_file() else None


def _plain(text: str) -> dict[str, Any]:
    """Settings without the one thing in such files that is not plain YAML: the place of a shipped file."""
    found: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{root:([^}]+)\}", lambda m: str(resource(m[1])), text))
    return found
