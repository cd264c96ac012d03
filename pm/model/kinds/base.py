"""The kind of parts `model`: what an adapter is made of, how it is trained, and how its file becomes a conditioner.

A new kind of adapter is one file in this package and one YAML in `conf/model`: training, checkpoints, export, sampling
and serving know it by the methods below and by `Conditioner`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

from pm.choice import Choice, find_part, may_be_named, part_names
from pm.errors import CheckpointError, ConfigError

if TYPE_CHECKING:  # configurations are read by programs that need no torch
    from pathlib import Path

    from torch import Tensor

    from pm.model.adapter_file import AdapterMeta
    from pm.model.base import BaseModel
    from pm.model.conditioner import Conditioner
    from pm.model.config import FaceEmbedding
    from pm.model.fused import UnetChange
    from pm.model.trained import TrainedAdapter

PHOTOMAKER = "photomaker"  # what files and runs without a kind are: those of versions that knew no other


class Penalised(NamedTuple):
    """What a model's forward pass may return instead of the prediction alone."""

    prediction: Tensor  # [B, C, h, w]
    penalty: Tensor  # [B] float32, added to each sample's loss


@dataclass(frozen=True)
class AdapterChoice(Choice, group="model", package="pm.model.kinds"):
    """A kind of adapter and its settings (`conf/model/*.yaml`)."""

    name: str

    title: ClassVar[str]  # for messages
    marks_class_word: ClassVar[bool] = True  # prompts must have the trigger word behind a class word
    delays: ClassVar[bool] = True  # the first steps see the text alone, where a request or a configuration says so
    weighs_photos: ClassVar[bool] = True  # takes a weight for each photo
    has_scale: ClassVar[bool] = False  # takes a scale of the image prompt
    sees_faces: ClassVar[bool] = False  # takes an embedding of each photo's face

    max_id_images: int  # N_max
    trigger_word: str
    gradient_checkpointing: bool

    def parts(self) -> tuple[str, ...]:
        """Parts of the base that training needs, of those of `load_base`."""
        return ("unet",)

    def stored(self, max_references: int) -> tuple[tuple[int, ...] | None, int | None]:
        """Which optional features of a dataset training can use.

        Returns:
            identity tokens of a sample with 1, 2, ... references where the class word is repeated for each, or None;
            and how many of the vision tower's upper layers are trained, or None where its features are no use.
        """
        return None, None

    def for_dataset(self, face: FaceEmbedding | None, name: str) -> Self:
        """The settings with what the dataset decides; called before `build`.

        Args:
            face: which face embeddings the dataset has; None: none.
            name: of the dataset, for messages.

        Raises:
            DataError: this kind cannot be trained on it.
        """
        return self

    def build(self, base: BaseModel) -> TrainedAdapter:
        """A new adapter around `base.unet`, which is changed in place; `base` has the parts that `parts` names.

        Raises:
            CheckpointError: the base does not fit.
        """
        raise NotImplementedError

    def start_from(self, model: TrainedAdapter, path: str | Path) -> None:
        """Give a model that `build` made the weights of an adapter's file.

        Raises:
            CheckpointError: it does not fit.
        """
        raise NotImplementedError

    @classmethod
    def claims(cls, keys: Collection[str]) -> bool:
        """Whether a file with these keys and without our metadata is a published one of this kind."""
        return False

    @classmethod
    def published(cls, state: Mapping[str, Tensor], name: str) -> tuple[dict[str, Tensor], AdapterMeta]:
        """A published file's weights in our names, and what its own loader would know of it; `name` is for messages.

        Raises:
            CheckpointError: it is not complete, or of a variant that is not supported.
        """
        raise NotImplementedError

    @classmethod
    def check(cls, state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
        """The weights of a file of ours, checked and in today's names.

        Raises:
            CheckpointError: keys that do not belong there, or are missing.
        """
        raise NotImplementedError

    @classmethod
    def width(cls, state: Mapping[str, Tensor]) -> int | None:
        """D, of the text features that the weights of a file are for; None: nothing says so."""
        return None

    @classmethod
    def read(
        cls, base: BaseModel, state: Mapping[str, Tensor], meta: AdapterMeta, *, check_base: bool
    ) -> tuple[Conditioner, UnetChange | None]:
        """The conditioner of a file, frozen, on the U-Net's device; and what the adapter changes in the U-Net.

        Raises:
            CheckpointError: it does not fit the base.
        """
        raise NotImplementedError


def kind_of(name: str) -> type[AdapterChoice]:
    """The kind that an adapter's file names. Nothing is imported because a file says so.

    Raises:
        ConfigError: there is none of that name.
    """
    if not may_be_named(AdapterChoice, name):
        raise ConfigError(
            f"kind={name!r} is neither one of {', '.join(part_names(AdapterChoice))} nor a module that is imported; if "
            f"it is yours, import it first (modules=[{name}] on the command line)"
        )
    return find_part(AdapterChoice, name, "kind")


def check_kind(theirs: str, ours: str, path: object) -> None:
    """Refuse to start training from an adapter of another kind.

    Raises:
        CheckpointError: it is one.
    """
    if theirs != ours:
        raise CheckpointError(f"init={path} is an adapter of the kind {theirs}, this run trains {ours}; set model")


def claimed_by(keys: Collection[str]) -> type[AdapterChoice] | None:
    """The kind of a published file, from its keys; None: no kind knows it."""
    kinds = (find_part(AdapterChoice, name) for name in part_names(AdapterChoice))
    return next((kind for kind in kinds if kind.claims(keys)), None)
