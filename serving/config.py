"""Settings of the service (`conf/serve.yaml`)."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from annotated_types import Ge, Gt, Interval

from pm.config import from_mapping
from pm.errors import ConfigError
from pm.model.config import BaseConfig
from pm.model.weighting import Weighting
from pm.photo.embedders.embed import EmbedderChoice
from pm.photo.stored import Preparation
from pm.protect.config import ProtectConfig
from pm.sample.config import SamplerConfig

Whole = Annotated[int, Ge(0)]
Count = Annotated[int, Ge(1)]
Amount = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]
BASE = "base"  # the base's name in the API, as in `pm.sample`: plain prompts, no photos


@dataclass(frozen=True)
class HttpConfig:
    """Where the proxies listen. `serve deploy` takes this from its own file (`serving/config.yaml`)."""

    host: str
    port: Annotated[int, Interval(ge=1, le=65535)]
    metrics_port: Annotated[int, Interval(ge=0, le=65535)]  # Prometheus reads it on every node; 0: any free one
    # Web sites other than this server whose pages may send requests, and names of this one behind a proxy.
    origins: tuple[str, ...]

    def __post_init__(self) -> None:
        for origin in self.origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
                raise ConfigError(f"http.origins: {origin!r} is no site; write it as https://portraits.example.org")

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

    body_bytes: Count
    photo_bytes: Count
    photo_pixels: Count  # width x height of an uploaded photo, known before it is decoded
    photo_side: Count  # larger photos are reduced to this before they travel to the engine
    photos: Count
    prompt_chars: Count
    images: Count  # n
    steps: Count
    loras: Whole  # beside one identity
    size: Count  # most pixels along a side of an image
    body_s: Positive  # for sending the body
    request_s: Positive  # for all of a request; no header of a client extends it
    in_flight_images: Count  # accepted by one ingress and not yet answered; more are told to come back
    in_flight_bytes: Count  # bodies that one ingress holds at once
    retry_after_s: Positive

    def __post_init__(self) -> None:
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

    photos: Whole  # of one tenant
    tenants: Count
    ttl_s: Positive
    adapter_bytes: Whole  # matrices of adapters that an engine keeps ready while no image uses them
    lora_bytes: Whole  # weights of LoRAs that an engine keeps ready, the ones used last


@dataclass(frozen=True)
class EngineConfig:
    """One replica of the sampler."""

    device: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    compile: Literal["off", "regional", "full"]  # of the U-Net, before the engine is ready; see `pm.model.compiled`
    offload: Literal["none", "model", "sequential"]  # of weights to the CPU's memory, see `pm.model.offload`
    vae_tiling: bool  # decode pictures in tiles
    quantize: Literal["int8", "fp8", "int8_dynamic", "fp8_dynamic"] | None  # of the U-Net's linear layers
    decode_batch: Count  # finished images of one size that the VAE decodes together, beside the steps
    png_level: Annotated[int, Interval(ge=0, le=9)]  # of zlib, for answers in PNG
    pixel_budget: Count  # of all images sampled together, guided ones counted twice; one image is always let in
    max_rows: Count  # images sampled together, however small
    lookahead: Whole  # images that wait inside the replica, so that a freed place is filled at once
    threads: Annotated[int | None, Ge(1)]  # CPU threads of the sampler; None: one for each core of its machine
    step_times: str | None  # file: the U-Net is a wait of so long, and pictures are noise; for planning


@dataclass(frozen=True)
class ScaleConfig:
    """How many replicas of a deployment, and what each gets. Names are Ray Serve's."""

    min_replicas: Whole  # 0: none while there is nothing to do; the first request then waits for one to start
    max_replicas: Count
    target_ongoing_requests: Positive  # a replica; the autoscaler adds replicas above and removes them below
    upscale_delay_s: Amount
    downscale_delay_s: Amount
    max_queued_requests: Annotated[int, Ge(-1)]  # at each caller, beyond what the replicas take
    num_cpus: Amount
    num_gpus: Amount
    drain_s: Amount  # a replica that shall stop finishes its requests for this long
    # New replicas that an update starts before it stops old ones; 0: where nothing is spare.
    surge_percent: Annotated[int, Interval(ge=0, le=100)]

    def __post_init__(self) -> None:
        if self.min_replicas > self.max_replicas:
            raise ConfigError(f"min_replicas={self.min_replicas} is more than max_replicas={self.max_replicas}")

    def autoscaling(self) -> dict[str, float]:
        """Ray Serve's `autoscaling_config`."""
        names = ("min_replicas", "max_replicas", "target_ongoing_requests", "upscale_delay_s", "downscale_delay_s")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class ServiceConfig:
    """How strictly OpenAI's fields are taken."""

    compat: bool  # make what clients of OpenAI's models send work; False: refuse it with the way out
    aliases: tuple[str, ...]  # patterns of model names that mean the default one, with `compat`


@dataclass(frozen=True)
class StyleConfig:
    """A style that the studio offers."""

    name: str
    prompt: str  # {prompt}: what was written; {person}: the class word with the trigger word


@dataclass(frozen=True)
class StudioConfig:
    """The pages at `/studio`."""

    enabled: bool
    open: bool  # a browser, when the service is ready
    runs: str | None  # folder or URI of runs and evaluations that may be looked at
    data: str | None  # folder or URI of datasets that may be looked at
    edit: bool  # corrections of datasets by hand may be proposed; they wait until `photomaker edit` applies them
    prompts: tuple[str, ...]  # to begin with
    styles: tuple[StyleConfig, ...]
    examples: tuple[str, ...]  # folders with sample photos


@dataclass(frozen=True)
class ServeConfig:
    """The whole service."""

    http: HttpConfig
    base: BaseConfig
    adapters: dict[str, str]  # name in the API -> adapter file; the first is the default
    loras: str | None  # folder of LoRAs: requests name its files without suffix; None: there are none
    check_base: bool
    controls: dict[str, str]  # name in the API -> folder or Hub id of a ControlNet or T2I-Adapter
    sampler: SamplerConfig  # what a request does not say
    preprocess: Literal["auto", "none", "photo", "drawing"]  # as in `pm.sample`; auto: as the adapter was trained
    photo: Preparation  # of photographs, where an adapter's metadata does not say how its own were prepared
    embedder: EmbedderChoice | None  # of faces, for adapters that take face embeddings; None: that of their training
    pick: Literal["largest", "left", "middle", "right"]  # which of several faces, unless a request says
    references: Literal["lenient", "strict"]  # lenient: photos that cannot be used are left out if others remain
    studio: StudioConfig
    service: ServiceConfig
    prompt_weighting: Weighting  # unless a request says
    class_words: tuple[str, ...]
    modules: tuple[str, ...]  # with parts of your own that an adapter names
    keys: KeysConfig
    limits: LimitsConfig
    cache: CacheConfig
    engine: EngineConfig
    ingress: ScaleConfig
    engines: ScaleConfig
    retries: Whole  # of an image whose replica died
    log_prompts: bool
    provenance: str  # in the text of every picture
    protect: ProtectConfig  # what is done to it before it leaves

    def __post_init__(self) -> None:
        check_adapters(self.adapters)
        if self.loras is not None and not Path(self.loras).expanduser().is_dir():
            raise ConfigError(f"loras={self.loras} is no folder; give one that holds .safetensors files, or null")

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
            raise ConfigError(f"adapters: {name!r} is not a valid model name; {BASE!r} is the base's own")
        if not isinstance(file, str) or not file:
            raise ConfigError(f"adapters.{name}={file!r} must be a file")


def load(overrides: Sequence[str] = ()) -> ServeConfig:
    """`conf/serve.yaml` with Hydra overrides, for those who start without the command line (`serve deploy`, tests).

    Raises:
        ConfigError: an override names nothing, or a value cannot be.
    """
    from serving.compose import composed

    return from_mapping(ServeConfig, composed("serve", overrides))
