"""Settings of the first stages: the raw photos, downloading, faces, verification. Values live in `conf/`."""

from dataclasses import dataclass
from typing import Literal

from pm.data.stages_config import at_least, needs
from pm.errors import ConfigError


@dataclass(frozen=True)
class DownloadConfig:
    """How the photos of a manifest of URLs are fetched."""

    connections: int  # at a time, in all
    per_host: int  # at a time, to one host
    timeout: float  # seconds without an answer
    total_timeout: float  # seconds for one photo, in one attempt
    retries: int  # after the first attempt
    backoff: float  # seconds before the second attempt, twice as long before each further one
    max_bytes: int  # of one photo
    user_agent: str
    respect_robots_tag: bool  # leave photos alone whose server says `X-Robots-Tag: noai`
    allow_private: bool  # also call addresses of private networks

    def __post_init__(self) -> None:
        for name in ("connections", "per_host", "max_bytes"):
            at_least(f"dataset.download.{name}", getattr(self, name), 1)
        for name in ("retries", "backoff"):
            at_least(f"dataset.download.{name}", getattr(self, name), 0)
        for name in ("timeout", "total_timeout"):
            at_least(f"dataset.download.{name}", getattr(self, name), 0.001)


@dataclass(frozen=True)
class SourceConfig:
    """The raw photos, `root/<identity>/<photo>`. With `identities`, toon photos are drawn if there are none."""

    name: str
    root: str | None  # folder, s3:// or gs:// prefix; with a manifest, where the downloads go
    manifest: str | None  # CSV, JSONL or Parquet with identity and url
    download: DownloadConfig | None
    min_side: int  # pixels, shorter side
    max_pixels: int  # width times height
    max_bytes: int  # of a file
    near_duplicate: int | None  # photos of a person whose 64-bit perceptual hashes differ in at most so many bits
    licence: str | None  # noted in dataset.json
    provenance: str | None
    identities: int | None
    photos_per_identity: int | None
    seed: int | None
    split: Literal["train", "eval"] | None
    defects: dict[str, float] | None  # share of the drawn photos with each kind of defect

    def __post_init__(self) -> None:
        if self.root is None:
            raise ConfigError("dataset.root is not set; give the folder with one folder per person (dataset.root=...)")
        if self.download is not None and self.manifest is None:
            raise ConfigError(
                "dataset.manifest is not set; give the CSV, JSONL or Parquet file with identity and url "
                "(dataset.manifest=...)"
            )
        if self.manifest is not None and self.download is None:
            raise ConfigError("dataset.manifest needs dataset.download; choose dataset=urls")
        if self.defects and self.identities is None:
            raise ConfigError("dataset.defects are planted in drawn photos only; choose dataset=toon, or leave it null")
        for name in ("min_side", "max_pixels", "max_bytes"):
            at_least(f"dataset.{name}", getattr(self, name), 1)
        if self.near_duplicate is not None and not 0 <= self.near_duplicate <= 32:
            raise ConfigError(
                f"dataset.near_duplicate={self.near_duplicate} must lie between 0 and 32 bits, or be null"
            )
        if self.identities is not None and None in (self.photos_per_identity, self.seed, self.split):
            raise ConfigError(
                "dataset.identities also needs dataset.photos_per_identity, dataset.seed and dataset.split"
            )


@dataclass(frozen=True)
class VerifyConfig:
    """Do the photos of a folder show one person? (paper section 3.3)"""

    rule: Literal["none", "similarity"]
    threshold: float | None  # standard deviations
    spread: Literal["group", "robust"] | None  # how the standard deviation is estimated
    min_spread: dict[str, float] | None  # robust: its lower bound by embedder, in distance of unit embeddings
    rounds: int | None  # of rejection, at most; the paper has one
    max_distance: dict[str, float] | None  # by embedder: groups further apart (median) show no one person; None: any do

    def __post_init__(self) -> None:
        if self.rule == "similarity":
            needs("verify=similarity", "verify", self, "threshold", "spread", "min_spread", "rounds")
            at_least("verify.rounds", self.rounds, 1)
