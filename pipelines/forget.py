"""Remove a person, or a photo by its sha256, from a dataset.

photomaker forget dataset=data/mine who=anna_woman
"""

from dataclasses import dataclass

from pipelines._entry import entry
from pm.config import from_mapping
from pm.errors import ConfigError


@dataclass(frozen=True)
class ForgetConfig:
    """Whom to remove from where (`conf/forget.yaml`)."""

    data: str
    who: str

    def __post_init__(self) -> None:
        for name, value in (("dataset", self.data), ("who", self.who)):
            if value == "???":
                raise ConfigError(f"{name} is not set; write photomaker forget dataset=<folder> who=<name or sha256>")


@entry("forget", ForgetConfig, renamed={"dataset": "data"})
def main(cfg: dict) -> None:
    config = from_mapping(ForgetConfig, cfg)

    from pm.data.dataset.forget import forget

    print(forget(config.data, config.who).text(config.data))


if __name__ == "__main__":
    main()
