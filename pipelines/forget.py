"""Remove a person, or a photo by its sha256, from a dataset, or from everything below a folder.

photomaker forget dataset=data/mine who=anna_woman
photomaker forget within=. who=anna_woman photos=true
"""

from dataclasses import dataclass
from pathlib import Path

from pipelines._entry import entry
from pm.config import from_mapping
from pm.errors import ConfigError


@dataclass(frozen=True)
class ForgetConfig:
    """Whom to remove from where (`conf/forget.yaml`)."""

    data: str | None
    within: str | None  # folder
    who: str
    photos: bool

    def __post_init__(self) -> None:
        if self.who in ("???", ""):
            raise ConfigError("who is not set; write photomaker forget dataset=<folder> who=<name or sha256>")
        if (self.data is None) == (self.within is None):
            raise ConfigError(
                f"dataset={self.data} and within={self.within}: give one of dataset=<folder> and within=<folder> "
                "(everything below it)"
            )


@entry("forget", ForgetConfig, renamed={"dataset": "data"})
def main(cfg: dict) -> None:
    config = from_mapping(ForgetConfig, cfg)

    from pm.data.dataset.forget import forget
    from pm.protect.forget import forget_everywhere
    from pm.protect.places import Places, places_below

    if config.data is not None and not config.photos:
        return print(forget(config.data, config.who).text(config.data))
    places = Places([Path(config.data)]) if config.data else places_below(str(config.within))
    return print(forget_everywhere(config.who, places, photos=config.photos).text())


if __name__ == "__main__":
    main()
