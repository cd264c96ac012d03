"""Which rule marks the class word in a caption that lacks its group's. Imports no model."""

import importlib.util
from importlib import metadata
from pathlib import Path

from pm.data.config import MarkingConfig
from pm.data.stages.captions import Marker
from pm.errors import ConfigError, install_hint


def make_marker(config: MarkingConfig) -> Marker | None:
    """The marker that `marking.rule` names; None stands for the simple rule.

    Raises:
        ConfigError: `paper`, and its packages or the parser are not installed.
    """
    if config.rule == "simple":
        return None
    missing = _missing(config.parser)
    if not missing:
        from pm.data.captioning.paper_marker import PaperMarker

        return PaperMarker(config)
    if config.rule == "auto":
        return None
    raise ConfigError(f"marking.rule=paper needs {missing}; or choose marking.rule=simple")


def _missing(parser: str) -> str:
    """What is not installed, and how to get it; "" if nothing."""
    if any(importlib.util.find_spec(name) is None for name in ("spacy", "sentence_transformers")):
        return f"spaCy and sentence-transformers, run {install_hint('captions')}"
    if not Path(parser).is_dir() and not _is_installed(parser):
        return (
            f"the spaCy pipeline {parser}, run python -m spacy download {parser} or give a folder (marking.parser=...)"
        )
    return ""


def _is_installed(package: str) -> bool:
    """`spacy.util.is_package` without importing spaCy, which takes every worker more than a second."""
    try:
        metadata.distribution(package)
    except (metadata.PackageNotFoundError, ValueError):
        return False
    return True
