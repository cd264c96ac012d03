"""Where the raw photos come from: the kind that `dataset=` chooses of."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple, Self

from annotated_types import Ge, Interval

from pm.choice import Choice
from pm.data.consent.record import NOTHING, Consent
from pm.data.records import Photo
from pm.data.source.store import is_remote
from pm.errors import ConfigError


class Found(NamedTuple):
    """A file of a source: a photo, or something beside one."""

    identity: str  # "": outside any identity's folder
    name: str  # path below the root
    photo: bool  # False: a sidecar
    size: int  # bytes; -1 where it cannot be told
    source: str  # where it came from: a path, a URL, an archive and its member
    licence: str = ""  # if known
    sha256: str = ""  # as the source says; "": it does not
    changed: int = 0  # when, ns since 1970; 0: it cannot be told
    consent: Consent = NOTHING  # as the source says


@dataclass(frozen=True)
class SourceChoice(Choice, group="dataset", package="pm.data.source"):
    """The raw photos of a data set, and what is asked of each of them."""

    name: str
    root: str | None  # folder, s3:// or gs:// prefix
    min_side: Annotated[int, Ge(1)]  # pixels, shorter side
    max_pixels: Annotated[int, Ge(1)]  # width times height
    max_bytes: Annotated[int, Ge(1)]  # of a file
    # Photos of a person whose 64-bit perceptual hashes differ in at most so many bits; None: keep all.
    near_duplicate: Annotated[int, Interval(ge=0, le=32)] | None
    licence: str | None  # noted in dataset.json
    provenance: str | None

    fetches: ClassVar[bool] = False  # photos have to be fetched into the root first, see `fetcher`

    def __post_init__(self) -> None:
        if self.root is None:
            raise ConfigError("dataset.root is not set; give the folder with one folder per person (dataset.root=...)")

    @property
    def place(self) -> str:
        """Where the photos are, as a setting, for messages."""
        return f"dataset.root={self.root}"

    def absolute(self) -> Self:
        """With local paths made absolute: workers may run in another folder. Buckets stay."""
        root = str(self.root)
        return dataclasses.replace(self, root=root if is_remote(root) else str(Path(root).absolute()))

    def prepare(self) -> None:
        """What has to be done before the photos can be listed. Here: nothing.

        Raises:
            DataError: it cannot be done.
        """

    def found(self, ignored: Counter[str]) -> Iterator[Found]:
        """All photos and sidecars, in any order; files that are neither are counted by suffix in `ignored`.

        Raises:
            DataError: the source is missing or cannot be read.
        """
        raise NotImplementedError

    def fetcher(self, share: float) -> Callable[[Sequence[Photo]], list[Photo]]:
        """What puts photos below the root, where the source `fetches`; rejects those that are not to be had.

        Args:
            share: of the connections to a host, where several fetchers share them.
        """
        raise NotImplementedError
