"""Files of prompts: YAML with a list for each category, or text with a prompt a line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from pm.errors import DataError
from pm.methods.trial import PLACE


@dataclass(frozen=True)
class PromptText:
    """One prompt, with `PLACE` where the person stands."""

    template: str
    category: str = ""


def read_prompts(path: str | Path) -> list[PromptText]:
    """All prompts of a file, in its order.

    Raises:
        DataError: it cannot be read, has none, one twice, or one without exactly one placeholder.
    """
    file = Path(path).expanduser()
    try:
        text = file.read_text(encoding="utf-8")
        content = yaml.safe_load(text) if file.suffix in (".yaml", ".yml") else None
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise DataError(f"prompts {file.absolute()} cannot be read ({error})") from error
    if content is None:
        lines = (line.strip() for line in text.splitlines())
        content = {"": [line for line in lines if line and not line.startswith("#")]}
    if not isinstance(content, dict) or not all(isinstance(of, list) for of in content.values()):
        raise DataError(f"prompts {file.absolute()} must be a mapping of categories, each to a list of prompts")
    found = [PromptText(str(prompt), str(category)) for category, of in content.items() for prompt in of]
    for i, prompt in enumerate(found):
        if prompt.template.count(PLACE) != 1:
            raise DataError(
                f"prompt {prompt.template!r} of {file.absolute()} must have {PLACE} once, where the person stands; "
                f"write for example '{PLACE} reading a book'"
            )
        if prompt.template in [other.template for other in found[:i]]:
            raise DataError(f"prompt {prompt.template!r} is in {file.absolute()} twice; leave one out")
    if not found:
        raise DataError(f"prompts {file.absolute()} has no prompt")
    return found


def spread(prompts: Sequence[PromptText], count: int) -> list[PromptText]:
    """`count` of the prompts, evenly spread over the file, so over its categories; all where there are fewer."""
    count = min(count, len(prompts))
    return [prompts[i * len(prompts) // count] for i in range(count)]
