"""Which photos would come into a dataset, and why the others would not: the stages up to the mask, writing nothing."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pm.data.config import PreprocessConfig
from pm.data.records import Photo
from pm.data.run.advice import advise
from pm.data.run.build import absolute
from pm.data.run.progress import waiting
from pm.data.run.shards import plan_shards, shard_limit
from pm.data.run.steps import stages_of
from pm.data.run.worker import together
from pm.data.source.listing import Listing
from pm.data.source.rules import Rules
from pm.data.stages.stage import Place, Stage
from pm.errors import ConfigError, counted
from pm.model.base_sizes import base_sizes

_LAST = "masks"  # what follows needs the base's weights, and is about words


@dataclass(frozen=True)
class Check:
    """What `check` found."""

    photos: tuple[Photo, ...]  # sorted by identity and name; `reject` says why one would stay out
    notices: tuple[str, ...]  # about the folders' names
    advice: tuple[str, ...]  # what to do about those that would stay out

    @property
    def passed(self) -> int:
        """Photos that would come in."""
        return sum(photo.reject is None for photo in self.photos)

    def text(self) -> str:
        """A line for each photo, a sum, and what to do."""
        people = Counter(photo.identity for photo in self.photos if not photo.reject)
        width = max((len(photo.photo) for photo in self.photos), default=0)
        lines = [f"{photo.photo:<{width}}  {_verdict(photo)}" for photo in self.photos]
        lines.append(
            f"{self.passed} of {counted(len(self.photos), 'photo')} would pass, "
            f"of {counted(len(people), 'person', 'people')}; nothing was written"
        )
        return "\n".join([*lines, *self.notices, *self.advice])


def check(config: PreprocessConfig) -> Check:
    """Look at all photos in this process; neither Ray nor the base's weights are needed.

    Raises:
        ConfigError: the photos would have to be downloaded first.
        DataError: no photos.
        CheckpointError: a model is missing.
    """
    config = absolute(config)
    if config.dataset.fetches:
        raise ConfigError(
            f"dataset={config.dataset.name} has to download photos before they can be looked at; preprocess does, or "
            f"look at what is there already with dataset=folder dataset.root={config.dataset.root}"
        )
    config.dataset.prepare()
    rules = Rules(purpose=config.purpose if config.consent == "required" else None)
    with Listing(config.dataset, rules) as listing:
        stages = stages_of(config)
        with waiting("loading the models"):
            place = Place(base_sizes(config.base))
            last = [stage.name for stage in stages].index(_LAST) + 1
            work = [part for stage in stages[:last] for part in stage.build(place)]
        notices = [line for stage in stages for line in stage.notices(listing.identities())]
        photos: list[Photo] = []
        with waiting(f"looking at {counted(listing.found, 'photo')}"):
            for shard in plan_shards(listing.photos(), shard_limit(listing.found, config.workers.shard_photos)):
                for part in work:
                    shard = together(part, shard)
                photos += shard
    return Check(tuple(photos), tuple(notices), tuple(_advice(photos, stages)))


def _advice(photos: Sequence[Photo], stages: Sequence[Stage]) -> Iterator[str]:
    rejects = ((photo.identity, photo.reject) for photo in photos if photo.reject)
    for line in advise(rejects, len(photos), stages):
        yield line.replace("continues in the same folder and looks at", "would look at")


def _verdict(photo: Photo) -> str:
    reject = photo.reject
    if reject is None:
        return "passes"
    measured = "" if reject.value is None else f" {reject.value:.4g}"
    asked = "" if reject.threshold is None else f" (asked for: {reject.threshold:.4g})"
    return f"{reject.stage}: {reject.reason}{measured}{asked}{': ' + reject.detail if reject.detail else ''}"
