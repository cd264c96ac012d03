"""`dataset=urls`: a manifest of URLs, downloaded into the root first (paper section 3.3, "Image downloading")."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from pm.data.records import Photo
from pm.data.source.choice import Found, SourceChoice
from pm.data.source.download import DownloadConfig, Downloader
from pm.data.source.manifest import manifest_rows
from pm.errors import ConfigError


@dataclass(frozen=True)
class Urls(SourceChoice):
    """The rows of a manifest; `root` is where the downloads go."""

    manifest: str | None  # CSV, JSONL or Parquet with identity and url
    download: DownloadConfig

    fetches: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.manifest is None:
            raise ConfigError(
                "dataset.manifest is not set; give the CSV, JSONL or Parquet file with identity and url "
                "(dataset.manifest=...)"
            )

    @property
    def place(self) -> str:
        """The manifest, as a setting."""
        return f"dataset.manifest={self.manifest}"

    def absolute(self) -> Self:
        """The manifest's path too, where there is such a file."""
        manifest = Path(str(self.manifest))
        return dataclasses.replace(
            super().absolute(), manifest=str(manifest.absolute() if manifest.exists() else manifest)
        )

    def found(self, ignored: Counter[str]) -> Iterator[Found]:
        """The manifest's rows; how large the photos are, nobody knows yet."""
        for row in manifest_rows(str(self.manifest)):
            yield Found(row.identity, row.name, True, 0, row.url, row.licence, row.sha256, consent=row.consent)

    def fetcher(self, share: float) -> Callable[[Sequence[Photo]], list[Photo]]:
        """A `Downloader`."""
        return Downloader(self.download, str(self.root), share)
