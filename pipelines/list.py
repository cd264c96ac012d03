"""What there is: runs with their status and how to resume, adapters, pictures, datasets, evaluations.

photomaker list runs
"""

import sys

from pipelines._entry import entry
from pm.catalog.listing import ListConfig
from pm.config import from_mapping


@entry("list", ListConfig)
def listed(cfg: dict) -> None:
    from pm.catalog.listing import listing

    print(listing(from_mapping(ListConfig, cfg)))


def main() -> None:
    """A plain word says what is listed."""
    sys.argv[1:] = [word if "=" in word or word.startswith("-") else f"what={word}" for word in sys.argv[1:]]
    listed()


if __name__ == "__main__":
    main()
