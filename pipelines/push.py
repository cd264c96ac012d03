"""An adapter or a dataset → a repository of the Hub, after a question.

photomaker push folder=runs/mine repo=me/mine license=apache-2.0
"""

import sys

from pipelines._entry import entry
from pm.config import from_mapping
from pm.hub.config import PushConfig


@entry("push", PushConfig)
def composed(cfg: dict) -> None:
    config = from_mapping(PushConfig, cfg)

    from pm.hub.push import push

    print(f"uploaded: {push(config)}")


def main() -> None:
    sys.argv[1:] = ["ask=false" if word == "--yes" else word for word in sys.argv[1:]]  # as such programs have it
    composed()


if __name__ == "__main__":
    main()
