"""Settings of the stages from the crop to the features. Values live in `conf/`."""

from dataclasses import dataclass
from typing import Literal

from pm.errors import ConfigError


@dataclass(frozen=True)
class MarkingConfig:
    """Which word a caption is marked at when it lacks the class word of its group (paper section 3.3)."""

    rule: Literal["auto", "paper", "simple"]  # auto: paper where its packages are installed, else simple
    parser: str  # name or folder of a spaCy pipeline with a dependency parser
    sentences: str  # Hub id or folder of a sentence-transformers model
    clip: str  # Hub id or folder of a CLIP model


@dataclass(frozen=True)
class CaptionConfig:
    """What the photo shows, in words."""

    name: Literal["sidecar", "template", "blip2"]
    templates: tuple[str, ...]  # template: with {word}
    path: str | None  # blip2: Hub id or folder
    prompt: str | None  # blip2: how captions begin, "" for nothing
    attempts: int | None  # blip2: captions without a class word are generated anew, at most so often in all
    max_tokens: int | None  # blip2: length of a caption
    temperature: float | None  # blip2: of the second attempt and later ones; the first takes the likeliest words

    def __post_init__(self) -> None:
        if self.name == "template" and not self.templates:
            raise ConfigError("caption=template needs caption.templates, for example ['a photo of a {word}']")
        for template in self.templates:
            if "{word}" not in template:
                raise ConfigError(
                    f"caption template {template!r} lacks {{word}}; write for example 'a photo of a {{word}}'"
                )
        if self.name == "blip2":
            needs("caption=blip2", "caption", self, "path", "prompt", "attempts", "max_tokens", "temperature")
            at_least("caption.attempts", self.attempts, 1)
            at_least("caption.max_tokens", self.max_tokens, 1)
            if self.temperature <= 0:
                raise ConfigError(f"caption.temperature={self.temperature} must be above 0")


@dataclass(frozen=True)
class FeaturesConfig:
    """What is computed once and stored beside the photo."""

    storage: Literal["float16", "bfloat16"]  # of all features on disk
    repeat: int  # text features with the class word repeated 1 ... so often, for merge=repeat; 0: none
    noise_fills: int  # K: outputs of the vision tower's frozen lower layers on so many noise fills; 0: none
    train_layers: int  # the upper layers of the tower that training will not freeze (its adapter.train_layers)

    def __post_init__(self) -> None:
        for name in ("repeat", "noise_fills", "train_layers"):
            at_least(f"features.{name}", getattr(self, name), 0)


def at_least(name: str, value: float, minimum: float) -> None:
    """Refuse values below `minimum`."""
    if value < minimum:
        raise ConfigError(f"{name}={value} must be at least {minimum}")


def needs(choice: str, group: str, config: object, *names: str) -> None:
    """Refuse a choice whose own fields are null."""
    missing = [f"{group}.{name}" for name in names if getattr(config, name) is None]
    if missing:
        raise ConfigError(
            f"{choice} needs {', '.join(missing)}; leave as in conf/{group}/{choice.partition('=')[2]}.yaml"
        )
