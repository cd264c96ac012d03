"""Count the votes of a blind comparison: how often pictures of one method were preferred to those of others.

photomaker votes votes/*.json key=runs/evaluate/blind.key.json
"""

import sys

from pipelines._entry import entry
from pm.config import from_mapping
from pm.evaluate.votes import VotesConfig


@entry("votes", VotesConfig)
def counted(cfg: dict) -> None:
    from pm.evaluate.votes import count

    print(count(from_mapping(VotesConfig, cfg)))


def main() -> None:
    """Files can stand alone, as a shell's pattern gives them."""
    arguments = sys.argv[1:]
    files = [word for word in arguments if word.endswith(".json") and not _is_setting(word)]
    if files:
        escaped = (file.replace("\\", "\\\\").replace("'", "\\'") for file in files)
        listed = ",".join(f"'{file}'" for file in escaped)
        sys.argv[1:] = [*(word for word in arguments if word not in files), f"votes=[{listed}]"]
    counted()


def _is_setting(word: str) -> bool:
    return word.startswith("-") or word.partition("=")[0].lstrip("+") in ("votes", "key") and "=" in word


if __name__ == "__main__":
    main()
