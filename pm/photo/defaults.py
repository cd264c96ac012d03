"""How photographs are prepared unless something says otherwise: what `conf/` says, for those who come without Hydra."""

import functools

import yaml

from pm.config import from_mapping
from pm.photo.stored import Preparation
from pm.resources import resource

_FILES = {"face": "yunet", "mask": "selfie", "crop": "paper"}


@functools.cache
def shipped_preparation() -> Preparation:
    """The settings of conf/face/yunet.yaml, conf/mask/selfie.yaml and conf/crop/paper.yaml."""
    texts = {group: resource(f"conf/{group}/{file}.yaml").read_text() for group, file in _FILES.items()}
    return from_mapping(Preparation, {group: yaml.safe_load(text) for group, text in texts.items()})
