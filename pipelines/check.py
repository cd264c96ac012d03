"""Which photos would come into a dataset, and why the others would not; writes nothing.

photomaker check photos
"""

import sys

from pipelines._entry import entry
from pm.config import from_mapping
from pm.data.config import PreprocessConfig


@entry("check", PreprocessConfig, extra={"forget": str})
def run(cfg: dict) -> None:
    del cfg["forget"]  # preprocess's own
    config = from_mapping(PreprocessConfig, cfg)

    from pm.data.check import check

    print(check(config).text())


def main() -> None:
    """A plain word is the folder of photos."""
    folders = [word for word in sys.argv[1:] if "=" not in word and not word.startswith("-")]
    if len(folders) == 1:
        sys.argv[sys.argv.index(folders[0])] = f"dataset.root={folders[0]}"
    run()


if __name__ == "__main__":
    main()
