"""Settings of `photomaker push`."""

import re
from dataclasses import dataclass

from pm.errors import ConfigError


@dataclass(frozen=True)
class PushConfig:
    """One upload."""

    folder: str  # of an adapter (adapter.safetensors) or of a dataset (dataset.json)
    repo: str  # owner/name
    private: bool
    license: str | None  # the Hub's name for it: apache-2.0, cc-by-4.0, other, ...; None: what the card says
    consent: str | None  # of datasets: how the people shown have agreed to the publication
    ask: bool  # before anything is sent

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", self.repo, re.ASCII):
            raise ConfigError(f"repo={self.repo!r} is no name of a repository; write owner/name")
