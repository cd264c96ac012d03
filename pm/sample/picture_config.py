"""Settings of controls and image prompts; without torch, which programs that read configurations do not need."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Interval

Preprocess = Literal["none", "canny"]
PREPROCESS: tuple[Preprocess, ...] = ("none", "canny")


@dataclass(frozen=True)
class ControlConfig:
    """How a control acts on one image, unless it is said."""

    scale: Annotated[float, Ge(0)] = 1.0  # of its feature maps; 0: off
    start: Annotated[float, Interval(ge=0, le=1)] = 0.0  # share of the steps before it acts
    end: Annotated[float, Interval(ge=0, le=1)] = 1.0  # share of the steps after which it does no more
    preprocess: Preprocess = "none"  # canny: the picture's edges, instead of itself


@dataclass(frozen=True, kw_only=True)
class ControlFile(ControlConfig):
    """A control of `generate`: the model, and its picture."""

    path: str  # folder or Hub id
    image: str  # file


@dataclass(frozen=True, kw_only=True)
class PersonFiles:
    """One of several people of `generate`."""

    photos: tuple[str, ...] | str  # files, folders or patterns
    weights: tuple[float, ...] | None = None  # per photo
    box: tuple[float, ...] | str | None = None  # where the person is: see `pm.sample.people.Person`
    region: str | None = None  # likewise as a mask's file

    @property
    def places(self) -> tuple[str, ...]:
        """Files, folders or patterns of the photos."""
        return (self.photos,) if isinstance(self.photos, str) else self.photos


@dataclass(frozen=True, kw_only=True)
class PromptFiles:
    """The image prompt of `generate`."""

    adapter: str  # file of an IP-Adapter
    images: tuple[str, ...]  # files, folders or patterns
    scale: Annotated[float, Ge(0)] = 1.0  # 0: as without; 1: as trained
