"""Which stages a dataset needs, in order, and which of them one worker does together."""

from collections.abc import Sequence
from dataclasses import dataclass

from pm.choice import find_part
from pm.data.config import PreprocessConfig
from pm.data.stages.stage import Place, Stage, Work

# The order of the stages. A stage is a module of `pm.data.stages`, an entry point, or the dotted name of a module.
ORDER = ("consent", "download", "ingest", "faces", "verify", "crop", "masks", "captions", "precompute", "identities")


@dataclass(frozen=True)
class Step:
    """Stages that follow each other in one worker."""

    name: str  # of its first stage
    stages: tuple[str, ...]
    pool: bool  # it lives in actors
    gpu: bool  # they can use a GPU

    @property
    def after(self) -> str:
        """The stage that is done when the step is."""
        return self.stages[-1]


def stages_of(config: PreprocessConfig) -> list[Stage]:
    """The stages of a dataset, in order."""
    stages = [find_part(Stage, name)(config) for name in ORDER]
    return [stage for stage in stages if stage.wanted]


def steps_of(stages: Sequence[Stage]) -> list[Step]:
    """Stages with a model get actors of their own; what lies between them is done in one task."""
    found: list[list[Stage]] = []
    for stage in stages:
        before = found[-1][0] if found else None
        if before and (stage.joins or not (stage.pool or before.pool)):
            found[-1].append(stage)
        else:
            found.append([stage])
    return [Step(some[0].name, tuple(s.name for s in some), some[0].pool, some[0].gpu) for some in found]


def work_of(names: Sequence[str], config: PreprocessConfig, place: Place) -> list[Work]:
    """What a worker does for these stages, models included; brings no module that it does not need."""
    return [work for name in names for work in find_part(Stage, name)(config).build(place)]
