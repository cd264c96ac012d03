"""Pipelines of checkpoints in one file, by diffusers' name for it."""

from pathlib import Path
from typing import Any

from pm.errors import CheckpointError
from pm.model.single_file import unpack


class SingleFile:
    """A part of `pm.sample.models.LoadedModels`."""

    @classmethod
    def from_single_file(
        cls: Any, pretrained_model_link_or_path: str | Path, *, config: str | Path | None = None, **settings: Any
    ) -> Any:
        """Load a base from one `.safetensors` file, which `pm.model.single_file` turns into a folder the first time.

        Args:
            pretrained_model_link_or_path: the file.
            config: folder or Hub id with the configs and tokenizers of such a model; None: the Hub's, for its kind.
            settings: as in `from_pretrained`.

        Raises:
            CheckpointError: it is no such file, or its configs cannot be had.
        """
        for name in ("original_config_file", "original_config"):
            if settings.pop(name, None) is not None:
                raise CheckpointError(f"{name} is not read; give config=<folder or Hub id in the diffusers layout>")
        return cls.from_pretrained(unpack(pretrained_model_link_or_path, config), **settings)
