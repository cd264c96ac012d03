"""What every stage says about itself, so that nobody else has to know it by name."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pm.choice import Choice
from pm.data.config import PreprocessConfig
from pm.data.records import Photo
from pm.model.base_sizes import BaseSizes

Judge = Callable[[list[Photo]], list[Photo]]


@dataclass(frozen=True)
class Work:
    """What a worker does with the photos of a shard. `per_photo`: each photo is judged by itself, not by identity."""

    name: str  # of its stage
    function: Judge
    per_photo: bool


@dataclass(frozen=True)
class Place:
    """Where a stage is built."""

    sizes: BaseSizes  # of the base
    device: str = "cpu"  # "cpu" or "cuda", for a model: the one that this worker was given, whatever else is visible
    workers: int = 1  # that share what can be shared, as the connections to a host


@dataclass(frozen=True)
class Remedy:
    """What lets in photos that a stage rejects for some reason; a setting, or words for what is no setting's matter."""

    setting: str = ""  # as on the command line; its value is the threshold of the rejects
    limit: float = 0.0  # no further than this: photos beyond it are rarely of use
    words: str = ""  # {identities}: whose photos they are
    follows: bool = False  # mostly a consequence of other rejects


@dataclass(frozen=True)
class Stage(Choice, group="stage", package="pm.data.stages"):
    """One stage: photos → photos, of which it fills some fields, and rejects some.

    A stage is a subclass in a module of its own, whose name it bears, and has a place in `pm.data.run.steps.ORDER`.
    """

    config: PreprocessConfig

    name: ClassVar[str]  # in counts, rejects and messages
    remedies: ClassVar[Mapping[str, Remedy]] = {}  # by reason for a reject
    joins: ClassVar[bool] = False  # the workers of the stage before do it too, whatever else they hold

    @property
    def wanted(self) -> bool:
        """Whether this dataset needs the stage at all."""
        return True

    @property
    def pool(self) -> bool:
        """It holds a model, or something else worth keeping: it lives in workers of its own (`workers.<name>`)."""
        return False

    @property
    def gpu(self) -> bool:
        """Its model can use a GPU."""
        return False

    def depends(self) -> dict[str, Any]:
        """The settings that its verdicts depend on, by name; `dataset.json` keeps them to tell datasets apart."""
        return {}

    def check(self) -> None:
        """Fail here with one line for what would fail in every worker with a traceback.

        Raises:
            ConfigError: what it needs is not installed.
            CheckpointError: a model is missing.
        """

    def notices(self, identities: Iterable[str]) -> list[str]:
        """What a user should know before it starts, from the names of the people; a line each."""
        return []

    def build(self, place: Place) -> list[Work]:
        """Models included; the parts of its work, in order."""
        raise NotImplementedError
