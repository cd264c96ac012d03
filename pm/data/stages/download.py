"""Stage 0, of sources that fetch their photos: put them below the root (paper section 3.3, "Image downloading")."""

from dataclasses import dataclass
from typing import ClassVar

from pm.data.stages.stage import Place, Stage, Work


@dataclass(frozen=True)
class Download(Stage):
    """The source knows how; its workers share the connections to each host."""

    name: ClassVar[str] = "download"

    @property
    def wanted(self) -> bool:
        """Only where there is something to fetch."""
        return self.config.dataset.fetches

    @property
    def pool(self) -> bool:
        """Connections are kept open."""
        return True

    def build(self, place: Place) -> list[Work]:
        """One part."""
        return [Work(self.name, self.config.dataset.fetcher(1 / place.workers), per_photo=True)]
