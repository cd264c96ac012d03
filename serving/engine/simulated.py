"""A U-Net that is a wait: an engine of a GPU that is not there, for planning how many are needed.

All else of the engine is real: photos, prompts, batching, noise, decoding, files. Pictures are noise.
"""

import json
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pm.errors import ConfigError
from pm.model.conditioning import Conditioning


@dataclass(frozen=True)
class StepTimes:
    """Seconds of one U-Net call, by the lines of its batch (a guided image has two) and by size."""

    about: str  # where the figures are from
    # pixels, as a share of those that the table's base was trained for -> (lines, seconds), both ascending
    by_size: Mapping[float, Sequence[tuple[int, float]]]

    @staticmethod
    def read(file: str | Path) -> "StepTimes":
        """From JSON: {"about": text, "resolution": px, "steps": [{"width", "height", "lines", "seconds"}, ...]}.

        Raises:
            ConfigError: not such a file.
        """
        path = Path(file).expanduser()
        try:
            if not path.is_file():
                raise ValueError("there is no such file")
            content: Any = json.loads(path.read_text(encoding="utf-8"))
            found: dict[float, list[tuple[int, float]]] = {}
            for each in content["steps"]:
                size = each["width"] * each["height"] / content["resolution"] ** 2
                if not (each["lines"] >= 1 and each["seconds"] > 0 and size > 0):
                    raise ValueError(f"{each} is no step")
                found.setdefault(size, []).append((int(each["lines"]), float(each["seconds"])))
            if not found:
                raise ValueError("it has no steps")
            return StepTimes(str(content["about"]), {size: sorted(found[size]) for size in sorted(found)})
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f'engine.step_times={path}: {error}; it needs {{"about": text, "resolution": px, "steps": [{{"width", '
                '"height", "lines", "seconds"}}, ...]}'
            ) from error

    def seconds(self, lines: float, size: float = 1.0) -> float:
        """Of a call with so many lines of a size, as a share of the pixels that the base was trained for.

        Straight lines between what is known, and beyond.
        """
        sizes = list(self.by_size)
        return _between(size, sizes, [_between(lines, *zip(*self.by_size[s], strict=True)) for s in sizes])


class WaitingUnet:
    """In the place of a base's `predict`."""

    def __init__(self, times: StepTimes, pixels: int) -> None:
        """`pixels`: of the latents that the base was trained for."""
        self.times, self.pixels = times, pixels

    def __call__(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        lines, size = noisy.shape[0], noisy.shape[-2] * noisy.shape[-1] / self.pixels
        time.sleep(self.times.seconds(lines, size))
        return noisy


def _between(x: float, known: Sequence[float], values: Sequence[float]) -> float:
    """Of the line through the two known points next to `x`; of the ray through zero where there is one point."""
    if len(known) == 1:
        return values[0] * x / known[0]
    i = min(max(bisect_left(known, x), 1), len(known) - 1)
    share = (x - known[i - 1]) / (known[i] - known[i - 1])
    found = values[i - 1] + share * (values[i] - values[i - 1])
    return max(found, values[0] * x / known[0] if x < known[0] else 0.0)
