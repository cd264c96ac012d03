"""Settings of the service (`conf/serve.yaml`)."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pm.errors import ConfigError
from pm.model.config import BaseConfig
from pm.sample.config import SamplerConfig

BASE = "base"  # the base's name in the API, as in `pm.sample`: plain prompts, no photos


@dataclass(frozen=True)
class HttpConfig:
    """Where the proxies listen. `serve deploy` takes this from its own file (`serving/config.yaml`)."""

    host: str
    port: int
    metrics_port: int  # Prometheus reads this port of every node; 0: any free one

    def __post_init__(self) -> None:
        for name, least in (("port", 1), ("metrics_port", 0)):
            if not least <= getattr(self, name) < 2**16:
                raise ConfigError(f"http.{name}={getattr(self, name)} is out of range; use {least} to 65535")

    @property
    def loopback(self) -> bool:
        """Only programs on this machine can connect."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True)
class KeysConfig:
    """Who may use the service."""

    file: str | None  # written by `python -m serving.http.keys`; None: everybody who can connect
    anonymous: bool  # without a file, serve other machines too: say so, or the service does not start


@dataclass(frozen=True)
class LimitsConfig:
    """What one request may ask for, and all of them together. Sizes in bytes or pixels, times in seconds."""

    body_bytes: int
    photo_bytes: int
    photo_pixels: int  # width x height of an uploaded photo, known before it is decoded
    photo_side: int  # larger photos are reduced to this before they travel to the engine
    photos: int
    prompt_chars: int
    images: int  # n
    steps: int
    size: int  # most pixels along a side of an image
    body_s: float  # for sending the body
    request_s: float  # for all of a request; no header of a client extends it
    in_flight_images: int  # accepted by one ingress and not yet answered; more are told to come back
    in_flight_bytes: int  # bodies that one ingress holds at once
    retry_after_s: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ConfigError(f"limits.{name}={value} must be above 0")
        if self.images > self.in_flight_images:
            raise ConfigError(
                f"limits.images={self.images} is more than limits.in_flight_images={self.in_flight_images}; raise that"
            )
        if self.body_bytes > self.in_flight_bytes:
            raise ConfigError(
                f"limits.body_bytes={self.body_bytes} is more than limits.in_flight_bytes={self.in_flight_bytes}"
            )


@dataclass(frozen=True)
class CacheConfig:
    """Identity embeddings that are kept for the next request with the same photos."""

    photos: int  # of one tenant
    tenants: int
    ttl_s: float


@dataclass(frozen=True)
class EngineConfig:
    """One replica of the sampler."""

    device: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    compile: bool  # torch.compile of the U-Net: slower to start, faster after
    pixel_budget: int  # of all images sampled together, guided ones counted twice; one image is always let in
    max_rows: int  # images sampled together, however small
    lookahead: int  # images that wait inside the replica, so that a freed place is filled at once
    threads: int | None  # CPU threads of the sampler; None: one for each core of its machine

    def __post_init__(self) -> None:
        for name in ("pixel_budget", "max_rows", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"engine.{name}={value} must be at least 1")
        if self.lookahead < 0:
            raise ConfigError(f"engine.lookahead={self.lookahead} must be 0 or more")


@dataclass(frozen=True)
class ScaleConfig:
    """How many replicas of a deployment, and what each gets. Names are Ray Serve's."""

    min_replicas: int  # 0: none while there is nothing to do; the first request then waits for one to start
    max_replicas: int
    target_ongoing_requests: float  # a replica; the autoscaler adds replicas above and removes them below
    upscale_delay_s: float
    downscale_delay_s: float
    max_queued_requests: int  # at each caller, beyond what the replicas take
    num_cpus: float
    num_gpus: float
    drain_s: float  # a replica that shall stop finishes its requests for this long
    surge_percent: int  # new replicas that an update starts before it stops old ones; 0: where nothing is spare

    def __post_init__(self) -> None:
        if not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1:
            raise ConfigError(
                f"min_replicas={self.min_replicas}, max_replicas={self.max_replicas}: use 0 <= min <= max, max >= 1"
            )

    def autoscaling(self) -> dict[str, float]:
        """Ray Serve's `autoscaling_config`."""
        names = ("min_replicas", "max_replicas", "target_ongoing_requests", "upscale_delay_s", "downscale_delay_s")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class ServeConfig:
    """The whole service."""

    http: HttpConfig
    base: BaseConfig
    adapters: dict[str, str]  # name in the API -> adapter file; the first is the default
    check_base: bool
    sampler: SamplerConfig  # what a request does not say
    preprocess: Literal["auto", "none", "photo", "drawing"]  # as in `pm.sample`; auto: as the adapter was trained
    class_words: tuple[str, ...]
    keys: KeysConfig
    limits: LimitsConfig
    cache: CacheConfig
    engine: EngineConfig
    ingress: ScaleConfig
    engines: ScaleConfig
    retries: int  # of an image whose replica died
    log_prompts: bool
    provenance: str  # text chunk of every PNG

    def __post_init__(self) -> None:
        check_adapters(self.adapters)

    def check_exposure(self) -> None:
        """A service that other machines reach needs keys, unless it is said that it does not.

        Raises:
            ConfigError: no keys beyond loopback.
        """
        if self.keys.file is None and not self.http.loopback and not self.keys.anonymous:
            raise ConfigError(
                f"http.host={self.http.host} is reachable from other machines and keys.file is not set; make keys with "
                "'python -m serving.http.keys', or say keys.anonymous=true"
            )


def check_adapters(adapters: Mapping[str, str]) -> None:
    """Names and files of adapters, from the configuration or from Serve's `user_config`.

    Raises:
        ConfigError: none, or one that cannot be.
    """
    if not adapters:
        raise ConfigError("adapters is empty; name at least one, for example +adapters.mine=adapter.safetensors")
    for name, file in adapters.items():
        if not isinstance(name, str) or not name or not name.isprintable() or name == BASE:
            raise ConfigError(f"adapters: {name!r} is no name for a model; {BASE!r} is the base's own")
        if not isinstance(file, str) or not file:
            raise ConfigError(f"adapters.{name}={file!r} must be a file")
